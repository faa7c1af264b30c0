"""Verifiers behind one protocol (base.py), run in a pool of processes."""
