# `make demo` and `make test` need Python 3.11-3.13 and nothing else: each makes .venv from requirements.lock.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin

SHELL := /bin/bash
.PHONY: demo test test-slow peers static lock clean env

env: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "restante needs Python 3.11, 3.12 or 3.13 (set PYTHON=/path/to/python)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: env
	$(BIN)/restante dev demo --trace traces/whisper

test: env
	$(BIN)/python -m pytest -n auto -m "not slow"

# What takes longer: 10^5 inputs for each parser, 500 simulated runs, every mutant, floods.
test-slow: env
	$(BIN)/python -m pytest -n auto -m slow

# Other people's Whisper, for tests/interop: see tests/peers/README.md. Go 1.26 and a C compiler.
PEERS := .cache/peers
GO_FLAGS := -mod=readonly -trimpath -ldflags=-checklinkname=0
peers: $(PEERS)/wnode $(PEERS)/geth $(PEERS)/status

$(PEERS)/wnode: tests/peers/geth/go.mod tests/peers/geth/go.sum
	cd tests/peers/geth && go build $(GO_FLAGS) -o $(CURDIR)/$@ github.com/ethereum/go-ethereum/cmd/wnode

$(PEERS)/geth $(PEERS)/status: $(PEERS)/%: $(wildcard tests/peers/*/*.go tests/peers/*/go.*)
	cd tests/peers/$* && go build $(GO_FLAGS) -o $(CURDIR)/$@ .


static: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Needs uv, on a developer's machine only: users install from the lock with pip.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --extra dev --no-emit-package restante --custom-compile-command "make lock" -q pyproject.toml -o requirements.lock

clean:
	rm -rf .venv
