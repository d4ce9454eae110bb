#!/usr/bin/env bash
# Several real GPUs in one run of at most nine minutes: the doctor, replicas, shards against one GPU, retrieval, the forms
# of CUDA_VISIBLE_DEVICES, the demo and 765 queries through the main script. Short tables, a JSON line after each part.
#
#   bash benchmarks/multi_gpu.sh                     all visible GPUs; with one, two replicas share it
#   bash benchmarks/multi_gpu.sh --cpu               a tiny model on the CPU: tries the command itself
#   bash benchmarks/multi_gpu.sh --parts replicas,shards
#
# Runs in the active Python (or $PYTHON) and installs nothing.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" -m benchmarks.multi_gpu "$@"
