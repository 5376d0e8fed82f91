# Everything here works in a fresh clone. The virtual environment is made on demand; system packages stay untouched,
# but for the peers of the tests, which root installs with apt.
#   PYTHON=python3.12   the interpreter for the virtual environment
#   ARGS='...'          further arguments for demo or pytest
#   JOBS=1              how many processes run the tests (2)
#   ONLY=name,name      some of the figures of `make bench`

VENV := .venv
BIN  := $(VENV)/bin
JOBS ?= 2

.PHONY: help run test lint bench soak docs clean
.DEFAULT_GOAL := help

help:
	@echo 'make run     the demo: broker, EMS, EMA and eight devices, until Ctrl-C'
	@echo 'make test    the tests, with the peers they need'
	@echo 'make lint    ruff and mypy'
	@echo 'make bench   the figures, against floors measured in the same run'
	@echo 'make soak    the tests that run for minutes'
	@echo 'make docs    the pages that are made from the code'
	@echo 'make clean   remove what the above made, the virtual environment too'

# The shell lives through Ctrl-C, so that the demo's last word is the last one.
run: $(VENV)/.run
	@trap : INT; $(BIN)/smartema demo $(ARGS) || [ $$? -eq 130 ]

test: $(VENV)/.dev
	@sh .ci/peers.sh $(BIN)/python
	@$(BIN)/python -m pytest -m 'not soak' -n $(JOBS) --dist loadfile -rs $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo 'ruff format: these files are not formatted:'; $(BIN)/ruff format --check .; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@echo 'lint: all well'

bench: $(VENV)/.dev
	@sh .ci/peers.sh $(BIN)/python
	@ONLY='$(ONLY)' $(BIN)/python -m benchmarks

soak: $(VENV)/.dev
	@sh .ci/peers.sh $(BIN)/python
	@$(BIN)/python -m pytest -m soak -rs $(ARGS)

docs: $(VENV)/.dev
	@$(BIN)/python -m gateway.config.document docs/configuration.md

clean:
	@rm -rf $(VENV) build dist *.egg-info bench.json .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@rm -rf tests/device_agents/micropython/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp stands for one set of extras, installed from this setup.cfg.
$(VENV)/.run: setup.cfg .ci/venv.sh
	@test -e $(VENV)/.dev && test ! setup.cfg -nt $(VENV)/.dev || sh .ci/venv.sh $(VENV) demo
	@touch $@

$(VENV)/.dev: setup.cfg .ci/venv.sh
	@sh .ci/venv.sh $(VENV) test,demo
	@touch $@
