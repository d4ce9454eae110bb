"""Lists the shares of free memory that this package takes for itself, and why each is not all of it.

Other processes, the CUDA context, kernels and libraries live in what is left.
"""

from __future__ import annotations

# Of the memory that is free on a GPU before anything loads: weights, KV cache and working memory together. What
# torch does not count comes on top of it: the CUDA context and kernels (about 0.6 GiB), and blocks that the
# allocator holds and cannot use. Users know the figure: it is what `max_gpu_memory` stands for when it is not given.
GPU_SHARE = 0.85

# Of what is still free on a GPU once the weights are loaded and the working memory is set aside, where nobody has
# given a budget: the context is there already, so less has to be left.
LOADED_GPU_SHARE = 0.92

# Of the free main memory, for weights that stay there: on a machine without GPUs, or with --cpu_offloading.
HOST_SHARE = 0.85

# Of the free main memory, for the KV caches on the CPU, of all replicas together: more at once gains nothing there.
CPU_KV_SHARE = 0.25

# Of the free main memory, for weights that pass through it on their way to the GPUs: a reading process maps the
# files and the page cache holds them as well.
LOADING_SHARE = 0.5
