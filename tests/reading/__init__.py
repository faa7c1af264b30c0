"""Tests of s2d_store.reading, and of what shows it."""
