# Everything happens in .venv, which the first target makes. PYTHON=python3.12 picks another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUNDLE := bundles/demo
# Test files that run side by side; each side builds the demo model's bundles for itself.
JOBS ?= 2

.PHONY: demo test check clean

## demo: install, build the demo model for this machine, and let it answer a question.
demo: $(BUNDLE)/edgellm.json
	$(BIN)/edgellm generate $(BUNDLE) --prompt "What is a bundle?"

$(BUNDLE)/edgellm.json: models/demo/model.safetensors $(VENV)/cpu.stamp
	@mkdir -p $(@D)/..
	$(BIN)/edgellm build models/demo --target native --out $(BUNDLE) --force

## test: install what the tests need and run them.
test: $(VENV)/test.stamp
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

## check: formatting, lint and types.
check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) bundles build dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "edgellm needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "On Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/%.stamp: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@
