#!/usr/bin/env bash
# From a checkpoint to the table of a paper: runs it over sets of queries, converts the answers, has them judged, prints one table.
#
#   bash scripts/evaluate.sh
#
# Alone in this tree it evaluates the bundled demo, whose own checker is the judge. The same as `bash scripts/toolgen.sh evaluate`;
# --help lists the variables and flags.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started with sh
set -euo pipefail
ROOT=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/lib/python_env.sh"
. "$ROOT/scripts/lib/launch.sh"
launch evaluate "$@"
