"""avg@n, pass@k and maj@n of policies on held-out prompts."""
