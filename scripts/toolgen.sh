#!/usr/bin/env bash
# Everything from one place: bash scripts/toolgen.sh COMMAND [FLAGS]. --help lists the commands. The first use sets up a virtual
# environment in this folder if the active Python lacks a package.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started with sh
set -euo pipefail
ROOT=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/lib/python_env.sh"
. "$ROOT/scripts/lib/launch.sh"
launch "$@"
