# `make demo` sets a fresh machine up and runs the pipeline, with DATA=FOLDER on images of your own; `make test` sets it
# up and passes the tests. Both need python3 (3.11 or newer) and a package index, nothing else.
PYTHON ?= python3
VENV ?= .venv
# Pinned first: left to itself pip may take a newer build than the converters want, with gigabytes of CUDA libraries.
# PyTorch's own index has CPU builds: make demo TORCH="torch==2.13.0 --index-url URL-OF-THE-CPU-INDEX"
TORCH ?= torch==2.13.0
PIP = $(VENV)/bin/pip --disable-pip-version-check install -q -c constraints.txt

.PHONY: demo setup test test-all lint android clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) -e ".[all,dev]"
	touch $@

demo: setup
	$(VENV)/bin/fedgate demo $(if $(DATA),--data "$(DATA)")

test: setup lint
	$(VENV)/bin/python -m pytest -m "not slow" --durations=25 -q

test-all: setup lint
	$(VENV)/bin/python -m pytest -q

# The app without Google's SDK, signed with a throw-away key: build/android/fedgate-demo-ABI.apk. What it needs of Debian
# it names; the rest comes from npm and Debian by their own clients, once.
android: setup
	PYTHONPATH=android_demo $(VENV)/bin/python -m offline apk

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV) .venv-* build *.egg-info
