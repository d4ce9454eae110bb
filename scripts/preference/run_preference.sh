#!/usr/bin/env bash
# Tells which of two models answers better, by a judge. Pass rates of both come first (scripts/pass_rate/run_pass_rate.sh).
#
#   CANDIDATE_MODEL=ToolGen-Llama-3-8B JUDGE_URL=http://localhost:8000/v1 bash scripts/preference/run_preference.sh
#
#   REFERENCE_MODEL         (virtual-gpt35-16k-step16-cot)
#   CANDIDATE_MODEL         the model whose win rate it is   (test)
#   TEST_SET                one or more sets, separated by blanks   (G2_instruction)
#   CONVERTED_ANSWER_PATH   (data/model_predictions_converted of this tree)
#   TEST_IDS_PATH           (data/solvable_queries/test_query_ids of this tree)
#   PASS_RATE_PATH          where the pass rates are   (data/results/pass_rate of this tree)
#   SAVE_PATH               (data/results/preference_results of this tree)
#   USE_PASS_RATE           false: the judge is asked for each answer's status anew, in every round   (true)
#   MAX_EVAL_THREADS        requests at once   (3)
#   EVALUATE_TIMES          rounds   (3)
#   JUDGE_URL, JUDGE_MODEL, JUDGE_API_KEY   an OpenAI-compatible judge; or
#   EVAL_MODEL, OPENAI_KEY, API_POOL_FILE   one of OpenAI's   (EVAL_MODEL: gpt-4o-2024-05-13)
#
# Further arguments go to the command as they are (see python -m evaluation.toolbench.tooleval.eval_preference --help).
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
use_openai_model gpt-4o-2024-05-13
read -r -a sets <<<"${TEST_SET:-G2_instruction}"
run_tooleval eval_preference \
    --converted_answer_path "${CONVERTED_ANSWER_PATH:-$ROOT/data/model_predictions_converted}" \
    --test_ids "${TEST_IDS_PATH:-$ROOT/data/solvable_queries/test_query_ids}" \
    --reference_model "${REFERENCE_MODEL:-virtual-gpt35-16k-step16-cot}" \
    --output_model "${CANDIDATE_MODEL:-test}" \
    --pass_rate_result_path "${PASS_RATE_PATH:-$ROOT/data/results/pass_rate}" \
    --save_path "${SAVE_PATH:-$ROOT/data/results/preference_results}" \
    --use_pass_rate "${USE_PASS_RATE:-true}" \
    --max_eval_threads "${MAX_EVAL_THREADS:-3}" \
    --evaluate_times "${EVALUATE_TIMES:-3}" \
    --test_set "${sets[@]}" \
    "$@"
