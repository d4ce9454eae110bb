#!/usr/bin/env bash
# The paged engine on this machine's GPUs, in less than nine minutes: its tokens, the host's part of a step, queries a
# minute by conversations, and with one conversation the kernels of a step.
#
#   bash benchmarks/engine_speed.sh            one GPU
#   bash benchmarks/engine_speed.sh several    one model over two, three (of 20 GiB each) and four of them
#
# Runs in the active Python (or $PYTHON) and installs nothing.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  ROOT=$PWD
  . scripts/lib/python_env.sh
  help_of benchmarks/engine_speed.sh
  exit
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
python="${PYTHON:-python3}"
gpus=$("$python" -c "import torch; print(torch.cuda.device_count())")
engine() { echo "== $*"; "$python" -m benchmarks.paged_engine "$@" || echo "failed: $*"; }

echo "== tokens"
"$python" -m pytest -q -x tests/engine/test_paged_gpu.py -p no:cacheprovider 2>&1 | tail -5
if [[ ${1:-} == several ]]; then
  echo "== host"
  "$python" -m benchmarks.host_step --device cuda --stages "$(seq -s, 2 "$gpus")" --conversations 64,128 --steps 200
  ((gpus < 3)) || engine --gpus 3 --gpu_gib 20 --conversations 64,128
  ((gpus < 4)) || engine --gpus 4 --conversations 64,128
  ((gpus < 2)) || engine --gpus 2 --conversations 16,64,128
else
  echo "== host"
  "$python" -m benchmarks.host_step --device cuda --stages 1,3 --conversations 1,64,128 --steps 200
  engine --conversations 1,16,64,128,192
  engine --variants default,restricted --conversations 64 --rounds 3
  engine --variants default,cublas --conversations 1 --rounds 3 --profile
fi
