# Python keeps what it compiled: otherwise every process compiles PyTorch and vLLM anew, which doubles their imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: up setup test quick check fix lock audit screenshots browser clients router

# Start everything; sets the machine up first.
up: setup
	.venv/bin/brogue up

setup:
	@bash scripts/setup.sh

# All tests, the slow ones and the browser's too. pytest's summary comes last. The order of sets is fixed, since what
# schemathesis makes up depends on it: a failure can be had again.
test: setup browser clients router check
	PYTHONHASHSEED=0 .venv/bin/python -m pytest

# Unit tests without a model, about a minute on two cores: two processes have half of them each. Without those of the
# page, the kernels, soft prompts, trainers and exams, since to import Gradio, PyTorch and PEFT takes ten seconds alone.
LIGHT := $(filter-out $(foreach of,assistant_ui system serve_cpu_lora serve_rollouts serve_soft_prompt adapters_ppo \
  adapters_methods adapters_train adapters_exam adapters_loop adapters_measures_exam assistant_retrain_plan \
  assistant_advice_other,tests/test_$(of)%), \
  $(wildcard tests/test_*.py))
HALF := $(filter tests/test_data_% tests/test_adapters_% tests/test_assistant_cli%,$(LIGHT))
QUICK := .venv/bin/python -m pytest -p no:langsmith_plugin -m "not slow and not engine and not browser"
quick: setup
	@log=$$(mktemp) && { $(QUICK) $(HALF) >$$log 2>&1 & } && \
	  { $(QUICK) $(filter-out $(HALF),$(LIGHT)); one=$$?; }; \
	  wait $$!; other=$$?; cat $$log; rm $$log; exit $$((one | other))

check: setup
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

fix: setup
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# Known vulnerabilities of the locked packages. It fails where a newer release mends one: then make lock. Without a
# network it says so and passes. CI prints it and goes on: a list that changes by the hour must not break a build, and
# vLLM and gradio hold some packages back.
audit: setup
	.venv/bin/python -m scripts.audit requirements/cpu.txt

AXE := 4.14.1
AXE_SHA512 := 1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5

# The page's tests drive the system's Chromium, and look for barriers with axe-core (from npm; without it they skip that).
browser: .venv/axe-core-$(AXE)
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || \
	  { echo "wanted the command 'chromium' for the page's tests; install it with your package manager" >&2; exit 1; }

.venv/axe-core-$(AXE):
	@cd .venv && npm pack --silent axe-core@$(AXE) >/dev/null 2>&1 && \
	  echo "$(AXE_SHA512)  axe-core-$(AXE).tgz" | sha512sum --check --status && \
	  mkdir -p axe-core-$(AXE).part && tar -xzf axe-core-$(AXE).tgz -C axe-core-$(AXE).part --strip-components 1 && \
	  mv axe-core-$(AXE).part axe-core-$(AXE) && rm axe-core-$(AXE).tgz || \
	  echo "axe-core $(AXE) could not be had from npm: the tests for accessibility will be skipped" >&2

OPENAI_NODE := 7.59.0
OPENAI_NODE_SHA512 := c0f60a2642cf14474d276b538528388c4d4fb6cbf85f7bbc83c2c8beed10cff50886c29e0b397bdeb978f0fb50b0356b24bfe4bb49625ceb1bc9dd93b11b0f27

# OpenAI's client for Node.js, which must work with the gateway (from npm; without it or Node.js that test is skipped).
clients: .venv/openai-node-$(OPENAI_NODE)

.venv/openai-node-$(OPENAI_NODE):
	@cd .venv && npm pack --silent openai@$(OPENAI_NODE) >/dev/null 2>&1 && \
	  echo "$(OPENAI_NODE_SHA512)  openai-$(OPENAI_NODE).tgz" | sha512sum --check --status && \
	  mkdir -p openai-node-$(OPENAI_NODE).part && \
	  tar -xzf openai-$(OPENAI_NODE).tgz -C openai-node-$(OPENAI_NODE).part --strip-components 1 && \
	  mv openai-node-$(OPENAI_NODE).part openai-node-$(OPENAI_NODE) && rm openai-$(OPENAI_NODE).tgz || \
	  echo "openai $(OPENAI_NODE) could not be had from npm: its test will be skipped" >&2

VLLM_ROUTER := 0.1.17

# vLLM's router, in an environment of its own (from PyPI; without it its tests are skipped).
router: .venv-router/vllm-router-$(VLLM_ROUTER)

.venv-router/vllm-router-$(VLLM_ROUTER): | setup
	@.venv/bin/uv venv --quiet --clear --python .venv/bin/python .venv-router && \
	  .venv/bin/uv pip install --quiet --python .venv-router vllm-router==$(VLLM_ROUTER) 2>/dev/null && touch $@ || \
	  echo "vllm-router $(VLLM_ROUTER) could not be had from PyPI: its tests will be skipped" >&2

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
