import os

# Tiny models lose far more to threads than they gain, and the tests' own processes share the cores. Before
# anything imports torch, so that every process started here inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
