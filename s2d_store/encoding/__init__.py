"""Columns as Arrow, NumPy and files hold them: lists of numbers, and encoders. No I/O."""
