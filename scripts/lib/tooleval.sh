# Sourced by the scoring scripts after python_env.sh. Expects ROOT and, for run_tooleval, PYTHON.

# `run_tooleval MODULE ...` runs a command of evaluation/toolbench/tooleval from the folder that the user is in. `python -m` would look
# into that folder first, which may have an `evaluation` of its own.
run_tooleval() {
    local module=$1
    shift
    "$PYTHON" -c 'import runpy, sys; sys.path[0] = sys.argv.pop(1); runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)' \
        "$ROOT" "evaluation.toolbench.tooleval.$module" "$@"
}

# `use_openai_model NAME` makes it the judge where the user names neither a model nor a server of his own, which has other models.
use_openai_model() {
    if [[ -z ${JUDGE_URL:-}${JUDGE_MODEL:-}${OPENAI_BASE_URL:-}${OPENAI_API_BASE:-} ]]; then export EVAL_MODEL=${EVAL_MODEL:-$1}; fi
}
