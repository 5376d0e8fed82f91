#!/bin/sh
# A virtual environment with this project and some of its extras: venv.sh FOLDER EXTRA,EXTRA
# Never installs outside of it (PEP 668). What is installed already is not asked for again, so it works offline.
set -eu
venv=$1
extras=$2

fail() {
    echo "$*" >&2
    exit 1
}

find_python() {
    old= bare=
    for name in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        command -v "$name" >/dev/null 2>&1 || continue
        if ! "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            old="$old $name"
        elif ! "$name" -c 'import venv, ensurepip' 2>/dev/null; then
            bare=${bare:-$name}
        else
            python=$name
            return
        fi
    done
    if [ -n "$bare" ]; then
        version=$("$bare" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        fail "$bare cannot make virtual environments: python3-venv is missing; install it: apt install python$version-venv"
    fi
    fail "Python 3.11 or newer is needed${old:+, and$old is older}; install it: apt install python3 python3-venv"
}

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    find_python
    echo "making $venv with $python"
    "$python" -m venv --clear "$venv" || fail "$python -m venv failed; python3-venv may be missing: apt install python3-venv"
fi
if ! "$venv/bin/python" .ci/installed.py "$extras" 2>/dev/null; then
    echo "installing smartema[$extras] into $venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$extras]" ||
        fail "pip could not install smartema[$extras] (above is why); with a network, run make again"
fi
# pip compiles what it installs, but not what it installs editable: each start would compile it anew where Python may
# not write bytecode.
"$venv/bin/python" -m compileall -q gateway device_agents hardware headend lab || true
