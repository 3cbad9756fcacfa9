"""Measurements, called by `python -m benchmarks.NAME`: each says in its first lines what it answers and with what."""

import os

# before NumPy is imported: processor seconds are compared, and runs of a benchmark share the cores by themselves
os.environ.setdefault("OMP_NUM_THREADS", "1")
