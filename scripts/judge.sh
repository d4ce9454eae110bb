#!/usr/bin/env bash
# Serves a judge on this machine's GPUs for as long as a command runs, and stops it then.
#
#   JUDGE_PATH=/models/Qwen2.5-32B-Instruct bash scripts/judge.sh bash scripts/pass_rate/run_pass_rate.sh
#
# The same as `bash scripts/toolgen.sh judge`; --help lists the variables.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started with sh
set -euo pipefail
ROOT=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/lib/python_env.sh"
. "$ROOT/scripts/lib/launch.sh"
launch judge "$@"
