#!/usr/bin/env bash
# Runs ToolGen over a file of queries, on every visible GPU, against an API server.
#
#   bash scripts/inference/inference_toolgen_pipeline_virtual.sh
#
# Alone in this tree (no data/ folder, no MODEL_PATH) it runs the bundled demo; in a ToolGen checkout it runs the checkout's data/.
# The same as `bash scripts/toolgen.sh run`. --help lists the variables and flags.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started with sh
set -euo pipefail
ROOT=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
. "$ROOT/scripts/lib/python_env.sh"
. "$ROOT/scripts/lib/launch.sh"
launch run "$@"
