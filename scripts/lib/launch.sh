# Sourced by the scripts of this tree after python_env.sh. `launch COMMAND ...` becomes the launcher, in a Python that has what it
# needs. What can be said without packages (help, the version, a typo) is said before any are installed.
launch() {
    local launcher=$ROOT/evaluation/toolbench/launcher/__main__.py requirements=$REQUIREMENTS status=0 base
    if ! find_python_with "$requirements"; then
        base=$(new_enough_python) || exit 2
        "$base" "$launcher" --first_look "$@" || status=$?
        if ((status != 75)); then exit "$status"; fi # 75: nothing to say yet
        make_python_with "$requirements" || exit 2
    fi
    export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
    exec "$PYTHON" "$launcher" "$@"
}
