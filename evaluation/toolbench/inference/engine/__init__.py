"""Turns token ids into token ids: nothing here knows of tools, prompts or text. Reading order:

    request                  what an engine is asked and what it answers; the interface `Engine`
    constraint, checks       what a generation may produce; what is refused, and where a generation ends (pure)
    sampling, scoring,
    device_constraint        the next token, the best tokens and constraints on a device, the same in every engine
    quantized_linear         a layer whose weight is held in 8 bits
    kernels/                 what kernels of any kind need: of a card, of Triton, of 8-bit numbers
    products/                products of few rows, by a kernel of our own
    device                   where tensors belong, and how they get there
    kv_format                in which formats the KV cache may be, and of which engines
    factory                  an engine by the name that `--engine` gives

and the three engines, which give the same tokens in float32:

    reference                `generate`: transformers' own, one request at a time; what the others are held against
    paged/                   `paged`: many requests at once over a paged KV cache; the one that runs serve with
    remote/                  `server`: a generation server elsewhere, over HTTP

`attention/` has the kernels of the paged engine: in Triton, and in plain PyTorch.
"""

import logging
import os

# At each import torchao tells which of its kernels this machine cannot load. None of them is used here.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)

# CUDA reads it when it starts. A model over several GPUs has more streams on each than the eight hardware queues that
# are the default; of streams that share one, a step's work waits behind a wait for another GPU (seen on two H200s with
# 128 conversations: both idle for a quarter of the time).
QUEUES_VARIABLE, QUEUES = "CUDA_DEVICE_MAX_CONNECTIONS", 32
os.environ.setdefault(QUEUES_VARIABLE, str(QUEUES))

# Here, because the command line is read before torch is imported.
MAX_RUNNING = 128  # sequences in the paged engine's largest step, and conversations of a replica, unless told
SERVER_WAIT_S = 300.0  # for a generation server when all are down
# As `--engine` gives them.
ENGINES = ("auto", "paged", "generate", "server")
# As `--kv_cache` gives them: keys and values in the model's dtype, or in 8 bits.
KV_CACHES = ("auto", "fp8")
