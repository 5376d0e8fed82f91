#!/bin/sh
# Installs the MicroPython that tests/device_agents/test_micropython.py runs. Does nothing when it is there.
# Without Node, or without a registry on a machine that is no CI, it says so and the tests skip.
set -eu
cd "$(dirname "$0")"
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    echo "micropython: node or npm is missing, its tests will be skipped: apt install nodejs npm" >&2
    exit 0
fi
there=node_modules/.package-lock.json
if [ -f "$there" ] && [ ! package-lock.json -nt "$there" ]; then
    exit 0
fi
if npm ci --no-audit --no-fund --silent; then
    exit 0
fi
echo "micropython: npm could not install it, its tests will be skipped" >&2
[ "${CI:-}" != true ]
