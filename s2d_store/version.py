"""The version of s2d."""

__version__ = "0.1.0"
