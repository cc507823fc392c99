.PHONY: up setup test quick check fix lock screenshots browser

# Start everything; sets the machine up first.
up: setup
	.venv/bin/brogue up

setup:
	@bash scripts/setup.sh

# All tests, the slow ones and the browser's too. pytest's summary comes last.
test: setup browser check
	.venv/bin/python -m pytest

# Unit tests: no model, under a minute.
quick: setup
	.venv/bin/python -m pytest -m "not slow and not engine and not browser"

check: setup
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

fix: setup
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# The page's tests drive the system's Chromium.
browser:
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || \
	  { echo "wanted the command 'chromium' for the page's tests; install it with your package manager" >&2; exit 1; }

# The locks, from pyproject.toml. (No folder of local wheels may be set for the GPU's.)
lock: setup
	.venv/bin/uv pip compile -q --python-platform x86_64-manylinux_2_28 --python-version 3.11 --torch-backend cpu \
	  --excludes requirements/excludes-cpu.txt --extra cpu --group dev --no-annotate --no-header \
	  --no-emit-find-links --no-emit-index-url pyproject.toml -o requirements/cpu.txt
	.venv/bin/uv pip compile -q --python-platform x86_64-manylinux_2_35 --python-version 3.11 \
	  --excludes requirements/excludes-gpu.txt --extra gpu --group dev --no-annotate --no-header \
	  --no-emit-find-links --no-emit-index-url pyproject.toml -o requirements/gpu.txt

# The pictures in README and docs, from a page that runs (make up).
screenshots: browser
	.venv/bin/python -m scripts.screenshots http://127.0.0.1:7860 docs/images
