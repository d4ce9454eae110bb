#!/usr/bin/env bash
# Converts answers to the form that the scoring scripts read.
#
#   MODEL_NAME=ToolGen-Llama-3-8B bash scripts/convert_answer/run_convert_answer.sh
#
# Each set's answers are taken from $RAW_ANSWER_PATH/$MODEL_NAME/<set> and written to
# $CONVERTED_ANSWER_PATH/$MODEL_NAME/<set>.json. A file that cannot be converted is named, and the others are converted.
#
#   MODEL_NAME              folder of the model's answers
#   TEST_SET, test_set      one or more sets, separated by blanks   (G3_instruction)
#   METHOD, method          CoT@1, DFS_woFilter_w2, ...   (CoT@1)
#   RAW_ANSWER_PATH         (data/answer of this tree)
#   CONVERTED_ANSWER_PATH   (data/model_predictions_converted of this tree)
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started with sh
set -euo pipefail
ROOT=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
. "$ROOT/scripts/lib/python_env.sh"
. "$ROOT/scripts/lib/tooleval.sh"

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    help_of "${BASH_SOURCE[0]}"
    exit 0
fi

answers=${RAW_ANSWER_PATH:-$ROOT/data/answer} converted=${CONVERTED_ANSWER_PATH:-$ROOT/data/model_predictions_converted}
model=${MODEL_NAME:-}
if [[ -z $model ]]; then
    echo "Set MODEL_NAME to the folder of the model's answers below $answers." >&2
    exit 2
fi
use_python_with "$REQUIREMENTS"
worst=0
for set in ${TEST_SET:-${test_set:-G3_instruction}}; do # in small letters as in ToolGen's own script
    status=0
    run_tooleval convert_to_answer_format --answer_dir "$answers/$model/$set" --method "${METHOD:-${method:-CoT@1}}" \
        --output "$converted/$model/$set.json" "$@" || status=$?
    if ((status > worst)); then worst=$status; fi
done
exit "$worst"
