# Sourced by the scripts of this tree, which set ROOT to the tree's folder first. Everything it says goes to stderr.

# Our requirements: in a ToolGen checkout, which has a requirements.txt of its own, under another name.
REQUIREMENTS=$ROOT/requirements-multi-gpu.txt
if [[ ! -f $REQUIREMENTS ]]; then REQUIREMENTS=$ROOT/requirements.txt; fi

# The comment at a script's beginning, which is its help text.
help_of() { sed -n '2,/^set -/{/^set -/!s/^# \{0,1\}//p}' "$1"; }

# use_python_with FILE...: sets PYTHON to an interpreter that has what the requirements files ask for: the active Python if it
# does, else the tree's own virtual environment .venv, which is made or completed first. In a ToolGen checkout .venv also gets
# what the checkout's own files need.
use_python_with() { find_python_with "$@" || make_python_with "$@"; }

# The same, but nothing is made: 1 where there is none.
find_python_with() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python; do
        if _has "$candidate" "$@"; then
            PYTHON=$(command -v "$candidate")
            return 0
        fi
    done
    _list_for_venv "$@"
    if ! _has "$ROOT/.venv/bin/python" "${for_venv[@]}"; then return 1; fi
    PYTHON=$ROOT/.venv/bin/python
}

make_python_with() {
    local base
    base=$(new_enough_python) || return 2
    echo "Setting up $ROOT/.venv with $("$base" -V 2>&1) (once; a few minutes, most of them for PyTorch)" >&2
    # Without the venv package a failed attempt leaves a .venv that has Python and no pip.
    if ! "$ROOT/.venv/bin/python" -m pip --version >/dev/null 2>&1 && ! "$base" -m venv "$ROOT/.venv" >&2; then
        echo "'$base -m venv' failed: install your system's venv package (Debian, Ubuntu: apt install python3-venv)." >&2
        return 2
    fi
    PYTHON=$ROOT/.venv/bin/python
    _list_for_venv "$@"
    _install "${for_venv[@]}" || {
        echo "Installing what ${for_venv[*]##*/} ask for failed (see above). Without a network, install the packages they name yourself." >&2
        return 2
    }
}

# Sets for_venv to the files that .venv has to meet. A module that this tree does not bring along tells a checkout.
_list_for_venv() {
    for_venv=("$@")
    if [[ -f $ROOT/evaluation/toolbench/utils.py && -f $ROOT/requirements-checkout.txt ]]; then
        for_venv+=("$ROOT/requirements-checkout.txt")
    fi
}

_has() { command -v "$1" >/dev/null 2>&1 && "$1" "$ROOT/scripts/lib/check_requirements.py" "${@:2}" >/dev/null 2>&1; }

# The Python to make .venv with: $PYTHON if set, else python3 or the first of its newer neighbours that is new enough.
new_enough_python() {
    local is_new_enough='import sys; sys.exit(sys.version_info < (3, 10))' candidate candidates
    candidates=(python3 python3.12 python3.13 python3.11 python3.10 python3.14)
    if [[ -n ${PYTHON:-} ]]; then candidates=("$PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "$is_new_enough" >/dev/null 2>&1; then
            echo "$candidate"
            return 0
        fi
    done
    candidate=${PYTHON:-python3}
    if ! command -v "$candidate" >/dev/null 2>&1; then
        echo "No Python found ('$candidate'): install Python 3.10 or newer, or set PYTHON to one." >&2
    else
        echo "$candidate is $("$candidate" -V 2>&1); this needs Python 3.10 or newer: set PYTHON to one." >&2
    fi
    return 1
}

_install() {
    local files=() file torch_index
    "$PYTHON" "$ROOT/scripts/lib/package_index.py" || return 1
    for file in "$@"; do files+=(-r "$file"); done
    torch_index=$("$PYTHON" "$ROOT/scripts/lib/torch_index.py" "$REQUIREMENTS") || return 1
    if [[ -n $torch_index ]]; then
        _pip_install --index-url "$torch_index" "$(sed -n 's/^\(torch[><=][^ #]*\).*/\1/p' "$REQUIREMENTS")" || return 1
    fi
    _pip_install "${files[@]}"
}

# On a terminal pip shows its bars; elsewhere there is a line for each large file.
_pip_install() {
    local pip=("$PYTHON" -m pip --disable-pip-version-check install)
    if [[ -t 2 ]]; then
        "${pip[@]}" "$@" >&2
    else
        "${pip[@]}" --progress-bar off "$@" | sed -un 's/^ *Downloading .*[^0-9.]\([0-9.]* [MG]B\)).*/&/p' >&2
    fi
}
