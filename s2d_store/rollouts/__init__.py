"""Resumable drivers: generate, verify, score."""
