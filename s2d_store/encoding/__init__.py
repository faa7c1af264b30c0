"""Arrow columns of numbers: NumPy arrays to lists and back. No I/O."""
