#!/usr/bin/env bash
# Evaluates which tools a model names for queries (NDCG, recall, reciprocal rank), on every visible GPU.
#
#   bash scripts/retrieval/eval_toolgen.sh
#   STAGES="G1 G2 G3" SPLITS="instruction tool category" bash scripts/retrieval/eval_toolgen.sh
#
# Alone in this tree (no data/ folder, no MODEL_PATH) it evaluates the bundled demo; in a ToolGen checkout the checkout's data/.
# The same as `bash scripts/toolgen.sh retrieval`. --help lists the variables and flags.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started with sh
set -euo pipefail
ROOT=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
. "$ROOT/scripts/lib/python_env.sh"
. "$ROOT/scripts/lib/launch.sh"
launch retrieval "$@"
