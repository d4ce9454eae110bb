# Sourced by the scripts of this tree. `use_python_with FILE` sets PYTHON to an interpreter that has what the
# requirements file asks for: the active Python if it does, else the tree's own virtual environment .venv, which
# is made or completed first. Expects ROOT (the tree's folder). Everything it says goes to stderr.

use_python_with() {
    local requirements=$1 check=$ROOT/scripts/lib/check_requirements.py candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python "$ROOT/.venv/bin/python"; do
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" "$check" "$requirements" >/dev/null 2>&1; then
            PYTHON=$(command -v "$candidate")
            return 0
        fi
    done

    local base=${PYTHON:-python3}
    if ! command -v "$base" >/dev/null 2>&1; then
        echo "No Python found ('$base'): install Python 3.10 or newer, or set PYTHON to one." >&2
        return 2
    fi
    if ! "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        echo "$base is $("$base" -V 2>&1); this needs Python 3.10 or newer: set PYTHON to one." >&2
        return 2
    fi
    echo "Setting up $ROOT/.venv from ${requirements##*/} (once; a few minutes, most of them for PyTorch)" >&2
    # Without the venv package a failed attempt leaves a .venv that has Python and no pip.
    if ! "$ROOT/.venv/bin/python" -m pip --version >/dev/null 2>&1 && ! "$base" -m venv "$ROOT/.venv" >&2; then
        echo "'$base -m venv' failed: install your system's venv package (Debian, Ubuntu: apt install python3-venv)." >&2
        return 2
    fi
    PYTHON=$ROOT/.venv/bin/python
    if ! "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2; then
        echo "Installing ${requirements##*/} failed (see above). Without a network, install the packages it names yourself." >&2
        return 2
    fi
}
