#!/usr/bin/env bash
# Checks format, lint and types of this tree, then runs its tests. Less than 10 minutes on two cores.
#
#   bash scripts/run_tests.sh                      # everything
#   bash scripts/run_tests.sh tests/engine -x      # further arguments go to pytest
#   bash scripts/run_tests.sh -m "not slow"        # without the tests that run real processes for tens of seconds
#   TOOLGEN_TEST_LONG=1 bash scripts/run_tests.sh  # also with those that take minutes
#
# If the active Python lacks a package, a virtual environment .venv is made or completed in this folder first (5 GB, nearly all
# of it PyTorch). Tests that need a GPU, a Chromium or vLLM skip where there is none.
#
#   PYTHON      the Python to use
#   WITH_VLLM   1: also install vLLM for processors, once, for the tests of --engine server (4 GB, outside this folder:
#               ${XDG_CACHE_HOME:-~/.cache}/toolgen-multi-gpu)
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started with sh
set -euo pipefail
ROOT=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/lib/python_env.sh"

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    help_of "${BASH_SOURCE[0]}"
    exit 0
fi

use_python_with "$REQUIREMENTS" "$ROOT/requirements-dev.txt"
if [[ ${WITH_VLLM:-} == 1 ]]; then
    PYTHON=$PYTHON bash "$ROOT/scripts/lib/vllm_cpu.sh" >/dev/null || true # the tests say why it is not there
fi
cd "$ROOT"
"$PYTHON" -m ruff format --check --quiet . || { echo "Not formatted (see above): $PYTHON -m ruff format ." >&2; exit 1; }
"$PYTHON" -m ruff check .
"$PYTHON" -m mypy
exec "$PYTHON" -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder "$@"
