# What people and CI run, nothing else. `make run` and `make test` set everything up on a fresh machine.
.DEFAULT_GOAL := help
PY := .venv/bin/python
SETUP := .venv/.ready

help:
	@echo "make run        back real folders up, check, restore, compare; then a server that does, too"
	@echo "make test       the tests (make test-long: the full campaigns)"
	@echo "make check      formatting, lint, types, layers, docs"
	@echo "make bench      speed and memory of engine, archiver and server beside others"
	@echo "make docs       write the reference from the code"
	@echo "make lock       choose dependency versions anew"

$(SETUP): pyproject.toml requirements.lock scripts/setup src/holdfast/repo/format/_rabin.c
	@scripts/setup
	@touch $@

setup: $(SETUP)

run: $(SETUP)
	@$(PY) examples/first_backup.py
	@$(PY) examples/first_server.py

test: $(SETUP) check
	@scripts/test

test-long: $(SETUP)
	@scripts/test --long

check: $(SETUP)
	@scripts/check

docs: $(SETUP)
	@$(PY) scripts/reference.py --write

bench: $(SETUP)
	@scripts/bench

lock:
	@scripts/setup --lock

.PHONY: help setup run test test-long check docs bench lock
