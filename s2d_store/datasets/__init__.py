"""Locked datasets: build from a query, verify, read."""
