#!/usr/bin/env bash
# Tells how many queries a model solves, by a judge.
#
#   CANDIDATE_MODEL=ToolGen-Llama-3-8B JUDGE_URL=http://localhost:8000/v1 bash scripts/pass_rate/run_pass_rate.sh
#
#   CANDIDATE_MODEL         folder of the model's converted answers   (test)
#   TEST_SET                one or more sets, separated by blanks   (G2_instruction)
#   CONVERTED_ANSWER_PATH   (data/model_predictions_converted of this tree)
#   TEST_IDS_PATH           (data/solvable_queries/test_query_ids of this tree)
#   SAVE_PATH               results go to $SAVE_PATH/$CANDIDATE_MODEL   (data/results/pass_rate of this tree)
#   MAX_EVAL_THREADS        requests at once   (3)
#   EVALUATE_TIMES          repeats   (3)
#   JUDGE_URL, JUDGE_MODEL, JUDGE_API_KEY   an OpenAI-compatible judge; or
#   EVAL_MODEL, OPENAI_KEY, API_POOL_FILE   one of OpenAI's   (EVAL_MODEL: gpt-4-turbo-2024-04-09)
#
# Further arguments go to the command as they are, such as --evaluator fac (see
# python -m evaluation.toolbench.tooleval.eval_pass_rate --help).
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started with sh
set -euo pipefail
ROOT=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
. "$ROOT/scripts/lib/python_env.sh"
. "$ROOT/scripts/lib/tooleval.sh"

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    help_of "${BASH_SOURCE[0]}"
    exit 0
fi

use_python_with "$REQUIREMENTS"
use_openai_model gpt-4-turbo-2024-04-09
model=${CANDIDATE_MODEL:-test}
read -r -a sets <<<"${TEST_SET:-G2_instruction}"
run_tooleval eval_pass_rate \
    --converted_answer_path "${CONVERTED_ANSWER_PATH:-$ROOT/data/model_predictions_converted}" \
    --test_ids "${TEST_IDS_PATH:-$ROOT/data/solvable_queries/test_query_ids}" \
    --reference_model "$model" \
    --save_path "${SAVE_PATH:-$ROOT/data/results/pass_rate}/$model" \
    --max_eval_threads "${MAX_EVAL_THREADS:-3}" \
    --evaluate_times "${EVALUATE_TIMES:-3}" \
    --test_set "${sets[@]}" \
    "$@"
