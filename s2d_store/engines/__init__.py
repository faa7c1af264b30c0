"""Inference engines behind one protocol (base.py)."""
