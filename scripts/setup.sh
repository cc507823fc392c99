#!/usr/bin/env bash
# Sets up .venv with the locked packages for this machine (CPU or NVIDIA GPU). A second run ends at once.
set -euo pipefail
cd "$(dirname "$0")/.."

UV_VERSION=0.13.8
PYTHON=${PYTHON:-python3}

kind=cpu
if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; then kind=gpu; fi
kind=${BROGUE_DEVICE:-$kind}
lock=requirements/$kind.txt
stamp=.venv/.installed
wanted=$(cat "$lock" pyproject.toml scripts/setup.sh | sha256sum | cut -c1-64)
if [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ]; then exit 0; fi

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "setup: wanted Python 3.11 or newer, found $("$PYTHON" --version 2>&1 || echo none); set PYTHON=/path/to/python3.11" >&2
    exit 1
fi
echo "setup: installing the locked packages for $kind into .venv" >&2
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION" 2>&1 | grep -v '^WARNING: Location' >&2 || true

# uv does not read pip's settings. Where pip knows a folder of wheels, the CPU build of torch lies there; elsewhere it
# comes from PyTorch's own index.
links=${PIP_FIND_LINKS:-$(.venv/bin/python -m pip config get global.find-links 2>/dev/null || true)}
backend=()
if [ -n "$links" ]; then
    export UV_FIND_LINKS=${UV_FIND_LINKS:-${links// /,}}
fi
if [ "$kind" = cpu ] && ! ls ${links:-/nonexistent}/torch-*+cpu-*.whl >/dev/null 2>&1; then
    backend=(--torch-backend cpu)
fi
if [ -n "${PIP_CERT:-}" ]; then export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}; fi
# --no-deps: the lock is complete, and leaves out what would break a CPU install (requirements/excludes-*.txt).
.venv/bin/uv pip install --quiet --no-deps ${backend[@]+"${backend[@]}"} -r "$lock"
.venv/bin/uv pip install --quiet --no-deps --no-build-isolation --config-setting editable_mode=compat -e .
echo "$wanted" > "$stamp"
echo "setup: done" >&2
