"""What only a GPU can show, in ten minutes on one device, without a network: `make gpu`.

A check is one function with a time limit (`checks.py`); each runs in a process of its own, so that
one that hangs or runs out of memory costs the others nothing. Results are appended to
benchmarks/GPU.md.
"""
