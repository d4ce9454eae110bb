#!/usr/bin/env bash
# Runs the quick tests that need no torch on Python 3.10, where there is one: on the PATH or under pyenv. A minute and a half.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

for python in python3.10 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10.*/bin/python; do
    # pyenv's shims answer to names of versions that are not chosen, with an error.
    if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null; then break; fi
    python=''
done
if [[ -z $python ]]; then
    echo "No Python 3.10 here: its tests are left out"
    exit 0
fi

folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
"$python" -m venv "$folder/venv"
# torch is gigabytes; the others are of use beside it only.
grep -hvE '^(torch|torchao|accelerate|triton)\b' requirements.txt requirements-dev.txt >"$folder/requirements.txt"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$folder/requirements.txt" 2>"$folder/log" ||
    { cat "$folder/log" >&2; exit 1; }
# What pages do in a browser is the same on every Python.
"$folder/venv/bin/python" -m pytest -p no:cacheprovider --quiet --numprocesses 2 --dist loadfile -m "not slow" -r fE \
    --ignore-glob 'tests/*/test_*_page.py' tests
