PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501

.PHONY: app env test test-kernels check mutants bench study study-linearised screenshots clean

app: env  ## the dashboard, in the browser
	$(BIN)/python -m streamlit run app.py --server.port $(PORT)

env: $(VENV)/.made  ## a virtual environment with everything the app and the tests need

$(VENV)/.made: requirements.txt requirements-cluster.txt requirements-dev.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

test: env  ## unit, property, app and browser tests
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-kernels: env  ## the numerical tests with all kernels that the libraries have for this processor
	$(BIN)/python -m tests.kernels

check: env  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

mutants: $(VENV)/mutants/.made  ## plants faults in some modules and prints those that no test notices; ONLY='*paired*' takes one
	$(VENV)/mutants/bin/mutmut run $(if $(ONLY),'$(ONLY)')
	@$(VENV)/mutants/bin/mutmut results | sed -n 's/^ *\(.*\): survived$$/\1/p' | while read -r name; do \
		$(VENV)/mutants/bin/mutmut show "$$name"; done
	@echo "$$($(VENV)/mutants/bin/mutmut results | grep -c ': survived$$') faults went unnoticed"

$(VENV)/mutants/.made: $(VENV)/.made  # the tool in an environment of its own, which sees the packages of the other one
	$(BIN)/python -m venv $(VENV)/mutants
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(VENV)/mutants/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/tested.pth"
	$(VENV)/mutants/bin/python -m pip install --quiet --disable-pip-version-check 'mutmut==3.8.1'
	touch $@

bench: env  ## speed and memory, as ratios to naive code on the same machine
	$(BIN)/python -m benchmarks

study: env  ## the study of AWD and its page in docs, one to two hours
	$(BIN)/python -m studies.awd
	$(BIN)/python -m studies.page

study-linearised: env  ## the study of linearised adapters and its page in docs, about half an hour of one core
	$(BIN)/python -m studies.linearised
	$(BIN)/python -m studies.linearised_page

screenshots: env  ## the README's pictures
	$(BIN)/python docs/screenshots.py

clean:  ## remove caches and results, not the environment
	rm -rf .merging mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis
