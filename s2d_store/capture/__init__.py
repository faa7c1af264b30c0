"""`s2d capture`: a proxy before an OpenAI-compatible server that stores what passes through it."""
