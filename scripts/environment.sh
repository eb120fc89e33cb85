# shellcheck shell=bash
# Creates the Python environment of the project. Sourced by quickstart.sh and test.sh.
#   VENV    the environment's folder (default: .venv in the repository)
#   PYTHON  the interpreter that creates it (default: the first of python3, python3.14 ... that is
#           3.10 or newer)

fail() {
    echo "error: $1" >&2
    exit 2
}

# is_recent INTERPRETER: succeeds for one that exists and is Python 3.10 or newer.
is_recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

# find_python: prints the interpreter to create the environment with.
find_python() {
    local python candidates=(python3 python3.14 python3.13 python3.12 python3.11 python3.10)
    [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
    for python in "${candidates[@]}"; do
        if is_recent "$python"; then
            echo "$python"
            return
        fi
    done
    fail "no Python 3.10 or newer found as ${PYTHON:-python3}; install one, or set PYTHON to its path"
}

# make_environment: creates the folder $VENV unless it already holds an environment with pip.
make_environment() {
    local python
    if "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        is_recent "$VENV/bin/python" || fail "$VENV holds a Python older than 3.10; remove it"
        return
    fi
    python=$(find_python)
    echo "Creating the Python environment $VENV"
    "$python" -m venv "$VENV" ||
        fail "$python cannot create $VENV; on Debian and Ubuntu install python3-venv"
}

# is_installed FILE: succeeds if $VENV holds the requirements as FILE lists them now.
is_installed() {
    cmp -s "$1" "$VENV/installed-$1"
}

# prepare_environment [--no-deps] FILE...: creates or completes the environment $VENV with the
# requirements of each FILE, and with what these require unless --no-deps is given. What is
# installed is recorded there, so a second call starts at once.
prepare_environment() {
    local file missing=() flags=(--disable-pip-version-check)
    VENV=${VENV:-.venv}
    if [[ $1 == --no-deps ]]; then
        flags+=("$1")
        shift
    fi
    for file in "$@"; do
        is_installed "$file" || missing+=("$file")
    done
    ((${#missing[@]})) || return 0
    make_environment
    echo "Installing ${missing[*]} (PyTorch is large; the first time takes minutes)"
    [[ -t 1 ]] || flags+=(--quiet)
    "$VENV/bin/python" -m pip install "${flags[@]}" "${missing[@]/#/--requirement=}" ||
        fail "pip could not install ${missing[*]}; see its messages above"
    for file in "${missing[@]}"; do
        cp "$file" "$VENV/installed-$file"
    done
}
