#!/usr/bin/env bash
# Weights and KV cache in 8 bits on one GPU, in parts of less than ten minutes each:
#
#   bash benchmarks/eight_bit.sh tests       products, graphs, generations, what loading takes
#   bash benchmarks/eight_bit.sh kernels     attention over pages of 8 bits: right, and how fast beside 16 bits, with other tiles
#   bash benchmarks/eight_bit.sh sixteen     queries a minute at 1, 16, 64 and 128 conversations: bfloat16, int8
#   bash benchmarks/eight_bit.sh eight       the same: fp8, fp8 with an fp8 KV cache
#   bash benchmarks/eight_bit.sh card        20 GiB of the card, as one of three 24 GB cards has: int8, fp8, fp8 with an fp8 KV cache
#   bash benchmarks/eight_bit.sh fidelity    answers against bfloat16: the 8B shape with structured random weights
#
# Runs in the active Python (or $PYTHON) and installs nothing; an unpacked torchao in build/torchao is used if it is there.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  ROOT=$PWD
  . scripts/lib/python_env.sh
  help_of benchmarks/eight_bit.sh
  exit
fi
export PYTHONPATH="$PWD:$PWD/build/torchao${PYTHONPATH:+:$PYTHONPATH}"
python="${PYTHON:-python3}"
# The table is all that is wanted of a run; what went wrong stands in its last lines.
engine() {
  echo "== $*"
  "$python" -m benchmarks.paged_engine "$@" 2>"$log" | grep -v '^{' || { echo "failed: $*"; tail -15 "$log"; }
  grep -E 'room for|not compiled|recompile|graphs are off|graphs of all' "$log" | sort -u || true
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for part in "${@:-tests}"; do
  case $part in
    tests)
      "$python" -m pytest -q tests/engine/test_quantized_gpu.py tests/engine/test_paged_gpu.py tests/engine/test_few_rows.py \
        tests/engine/test_output_head.py -p no:cacheprovider 2>&1 | tail -15
      ;;
    kernels)
      "$python" -m pytest -q -m gpu tests/engine/test_float8.py tests/engine/test_attention.py -p no:cacheprovider 2>&1 | tail -15
      "$python" -m benchmarks.attention_kernels --only 64 --sweep 2>"$log" | grep -v '^{' || tail -15 "$log"
      "$python" -m benchmarks.attention_kernels --only prefill 2>"$log" | grep -v '^{' || tail -15 "$log"
      ;;
    sixteen) engine --weights auto,int8 --conversations 1,16,64,128 ;;
    eight) engine --weights fp8 --kv_cache auto,fp8 --conversations 1,16,64,128 ;;
    card)
      engine --gpu_gib 20 --weights int8,fp8 --kv_cache auto,fp8 --conversations 22,43
      ;;
    fidelity)
      "$python" -m benchmarks.fidelity --shape 8b --formats int8,fp8,auto+fp8,fp8+fp8 2>"$log" || tail -15 "$log"
      ;;
    *) echo "unknown part $part: tests, kernels, sixteen, eight, card, fidelity" >&2 && exit 2 ;;
  esac
done
