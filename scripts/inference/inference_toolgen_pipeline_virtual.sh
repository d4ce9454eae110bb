#!/usr/bin/env bash
# Runs ToolGen over a file of queries, on every visible GPU, against an API server.
#
#   bash scripts/inference/inference_toolgen_pipeline_virtual.sh
#
# Alone in this tree (no data/ folder, no MODEL_PATH) it runs the bundled demo; in a ToolGen checkout it runs the
# checkout's data/. Every variable below can be set in the environment:
#
#   MODEL_PATH        folder or hub name of the checkpoint   (reasonwang/ToolGen-Llama-3-8B; the demo's)
#   INDEXING          Atomic, Semantic, Numeric, Hierarchical   (Atomic)
#   TEMPLATE          llama-3, qwen-7b-chat   (llama-3)
#   DATA_DIR          folder laid out like ToolGen's data/   (data/ of this tree; the demo's)
#   STAGE, GROUP      which query file: $DATA_DIR/solvable_queries/test_instruction/${STAGE}_${GROUP}.json
#   OUTPUT_DIR        answers go to $OUTPUT_DIR/${STAGE}_${GROUP}   (data/answer/<model>; outputs/<model> without data/)
#   METHOD            CoT@1, CoT@3, DFS_woFilter_w2, ...   (CoT@1)
#   NUM_THREAD        conversations at once   (auto)
#   NUM_REPLICAS      copies of the model: auto or a number   (auto)
#   MAX_GPU_MEMORY    "20GiB" for every GPU, "20GiB,10GiB" one per GPU   (85% of what is free)
#   RESTRICT_ACTIONS  off, all (only tools of the catalog), truth (only tools of the query)   (off)
#   ENGINE            generate, paged, server
#   ENGINE_URL        of ENGINE=server: http://HOST:8000/v1, several separated by commas; scripts/serve_vllm.sh starts one
#   ENGINE_API_KEY    its key, passed on in the environment, never written anywhere
#   SERVICE_URL       a running API server; when not set, the offline server of this tree is started and stopped, or
#                     http://localhost:8080/virtual is used where there is no response cache
#   API_CACHE_DIR     response cache it replays   ($DATA_DIR/tool_response_cache)
#   TOOLBENCH_KEY, OPENAI_KEY, CUDA_VISIBLE_DEVICES
#
# Further arguments go to the pipeline as they are (see --help).
set -euo pipefail
ROOT=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
. "$ROOT/scripts/lib/python_env.sh"

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    help_of "${BASH_SOURCE[0]}"
fi

use_python_with "$ROOT/requirements.txt"
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
export TOOLBENCH_KEY=${TOOLBENCH_KEY:-} OPENAI_KEY=${OPENAI_KEY:-}
pipeline=$ROOT/evaluation/toolbench/inference/qa_pipeline_multithread.py

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    exec "$PYTHON" "$pipeline" --help
fi

# `python -m` would look into the current folder first, which may have an `evaluation` of its own.
run_module='import runpy, sys; sys.path[0] = sys.argv.pop(1); runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)'
"$PYTHON" -c "$run_module" "$ROOT" evaluation.toolbench.inference.multi_gpu.banner

demo=$ROOT/evaluation/toolbench/demo
if [[ (-z ${MODEL_PATH:-} || $MODEL_PATH -ef $demo/model) && -z ${DATA_DIR:-} && ! -d $ROOT/data ]]; then
    echo "No data/ folder and no other MODEL_PATH: running the bundled demo." >&2
    model_path=$demo/model data_dir=$demo/assets model_name=demo
    default_output=$ROOT/outputs/demo default_stage=demo default_group=queries
else
    model_path=${MODEL_PATH:-reasonwang/ToolGen-Llama-3-8B}
    data_dir=${DATA_DIR:-$ROOT/data}
    model_name=$(basename -- "$model_path")
    if [[ -d $ROOT/data ]]; then default_output=$ROOT/data/answer/$model_name; else default_output=$ROOT/outputs/$model_name; fi
    default_stage=G3 default_group=instruction
fi
stage=${STAGE:-$default_stage}
group=${GROUP:-$default_group}
indexing=${INDEXING:-Atomic}
template=${TEMPLATE:-llama-3}
answers=${OUTPUT_DIR:-$default_output}/${stage}_${group}
if [[ $indexing == Atomic ]]; then backbone_model=toolgen_atomic; else backbone_model=toolgen; fi

server_pid='' pipeline_pid=''
# The pipeline decides how to end; before there is one, this script ends at once.
stop() {
    if [[ -z $pipeline_pid ]]; then exit $((128 + $(kill -l "$1"))); fi
    kill "-$1" "$pipeline_pid" 2>/dev/null || true
}
clean_up() {
    if [[ -n $server_pid ]]; then
        kill "$server_pid" 2>/dev/null || true
        wait "$server_pid" 2>/dev/null || true
    fi
    if [[ -n ${ready_dir:-} ]]; then rm -rf -- "$ready_dir"; fi
}
trap clean_up EXIT
trap 'stop INT' INT
trap 'stop TERM' TERM HUP
# Each child gets a process group of its own: Ctrl-C reaches this script alone, which passes it on exactly once.
set -m

cache_dir=${API_CACHE_DIR:-$data_dir/tool_response_cache}
if [[ -z ${SERVICE_URL:-} && -z ${API_CACHE_DIR:-} && ! -d $cache_dir ]]; then
    SERVICE_URL=http://localhost:8080/virtual
    echo "No response cache at $cache_dir: using the API server at $SERVICE_URL. Set SERVICE_URL to another one, or" \
        "API_CACHE_DIR to a StableToolBench tool_response_cache folder." >&2
fi
if [[ -z ${SERVICE_URL:-} ]]; then
    ready_dir=$(mktemp -d) || exit 2
    "$PYTHON" -c "$run_module" "$ROOT" evaluation.toolbench.virtual_api --cache_dir "$cache_dir" \
        --port 0 --ready_file "$ready_dir/url" --exit_with_parent $$ 2>"$ready_dir/log" &
    server_pid=$!
    for _ in $(seq 600); do
        [[ -s $ready_dir/url ]] && break
        if ! kill -0 "$server_pid" 2>/dev/null; then break; fi
        sleep 0.1
    done
    if [[ ! -s $ready_dir/url ]]; then
        cat "$ready_dir/log" >&2
        echo "The offline API server did not start (see above). Set SERVICE_URL to use another one." >&2
        exit 2
    fi
    SERVICE_URL=$(<"$ready_dir/url")
fi
export SERVICE_URL

"$PYTHON" "$pipeline" \
    --model_path "$model_path" \
    --backbone_model "$backbone_model" \
    --indexing "$indexing" \
    --template "$template" \
    --data_dir "$data_dir" \
    --tool_root_dir "$data_dir/toolenv/tools" \
    --input_query_file "$data_dir/solvable_queries/test_instruction/${stage}_${group}.json" \
    --output_answer_file "$answers" \
    --method "${METHOD:-CoT@1}" \
    --num_thread "${NUM_THREAD:-auto}" \
    --num_replicas "${NUM_REPLICAS:-auto}" \
    --max_gpu_memory "${MAX_GPU_MEMORY:-}" \
    --restrict_actions "${RESTRICT_ACTIONS:-off}" \
    ${ENGINE:+--engine "$ENGINE"} \
    ${ENGINE_URL:+--engine_url "$ENGINE_URL"} \
    --chatgpt_model gpt-4o \
    --openai_key "$OPENAI_KEY" \
    --toolbench_key "$TOOLBENCH_KEY" \
    --max_observation_length 1024 \
    --function_provider all \
    --exit_with_parent $$ \
    "$@" &
pipeline_pid=$!
# A trapped signal ends `wait` early: wait again until the pipeline itself has ended.
status=0
while :; do
    wait "$pipeline_pid" && status=0 || status=$?
    kill -0 "$pipeline_pid" 2>/dev/null || break
done
exit "$status"
