# Every target first installs what it needs into .venv, which all share; nothing is installed globally.
# A target's extra is installed again only when pyproject.toml has changed since.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
SOURCES := sklearn_ncae benchmarks tests docs

# Keeps TensorFlow's start-up notes out of the output.
export TF_CPP_MIN_LOG_LEVEL ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint types docs benchmark clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  Another Python: make PYTHON=python3.12 TARGET. Options: make demo ARGS="--data synthetic",'
	@echo '  make test ARGS="tests/test_layers.py".'

demo: $(VENV)/.installed-demo ## Train on solar cell images, compare with scikit-learn's detectors
	@echo '==> Running benchmarks/demo.py $(ARGS)'
	@$(BIN)/python benchmarks/demo.py $(ARGS)

test: $(VENV)/.installed-test ## Run the tests and doctests, with coverage
	@echo '==> Running the tests$(if $(NCAE_DATA),, (NCAE_DATA is unset: tests on real images are skipped))'
	@$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),--cov -n auto --maxprocesses 4 --dist worksteal)

lint: $(VENV)/.installed-dev ## Check style and formatting with ruff
	@echo '==> Checking style with ruff'
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

types: $(VENV)/.installed-dev ## Check the type annotations with mypy
	@echo '==> Checking types with mypy'
	@$(BIN)/mypy

docs: $(VENV)/.installed-docs ## Build the HTML documentation, warnings are errors
	@echo '==> Building the documentation into docs/_build/html'
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

benchmark: $(VENV)/.installed-benchmark ## Measure speed and memory, write the tables of docs/performance.md
	@for script in layers residual_speed detector_speed memory workers; do \
		echo "==> Running benchmarks/$$script.py"; \
		$(BIN)/python benchmarks/$$script.py --write || exit 1; \
	done

clean: ## Delete .venv and everything that the other targets wrote
	rm -rf $(VENV) demo_output docs/_build docs/api/generated docs/gallery .coverage htmlcov \
		.hypothesis .mypy_cache .pytest_cache .ruff_cache

# The environment is made once; the extras are added to it as targets ask for them.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo 'No "$(PYTHON)" found. Install Python 3.11 or newer, or name one: make PYTHON=python3.12 ...' >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but Python 3.11 or newer is needed." >&2; \
		echo 'Name one that is: make PYTHON=python3.12 ...' >&2; \
		exit 1; }
	@echo '==> Creating $(VENV) with $(PYTHON)'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo 'The virtual environment was not made. On Debian and Ubuntu: apt install python3-venv' >&2; \
		exit 1; }

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo '==> Installing sklearn-ncae[$*] into $(VENV) (the first time takes minutes: TensorFlow)'
	@$(BIN)/python -m pip install --quiet --editable '.[$*]' || { \
		echo 'The installation failed, see the message above. Where pip finds no tensorflow,' >&2; \
		echo "there may be none for $$($(BIN)/python --version) yet: make clean, then" >&2; \
		echo 'make PYTHON=python3.12 ...' >&2; \
		exit 1; }
	@touch $@
