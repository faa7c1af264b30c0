"""Stored rollouts as a person reads them: text, verdicts, what policies thought of each token."""
