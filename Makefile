PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501
# Where torch and torchvision come from, if not from where pip looks. Without an NVIDIA GPU their CPU builds save 2.5 GB:
#     make app TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check
# pip compiles what it has installed, one file after the other, which takes as long as all the rest.
INSTALL := $(PIP) install --no-compile

.PHONY: app serve env test test-kernels fuzz check mutants bench gpu gpu-wheels docs study study-linearised shipped screenshots clean

app: $(VENV)/.app  ## the dashboard, in the browser
	$(BIN)/python -m merging app --port $(PORT)

serve: $(VENV)/.app  ## the dashboard for others, see docs/hosting.md; OPTIONS='--minutes 5' and such
	$(BIN)/python -m merging serve --port $(PORT) $(OPTIONS)

# What the app needs and no more: the package itself, from this folder, with the command `merging`.
$(VENV)/.app: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV): about 0.4 GB are fetched, on Linux 3 GB as torch brings the libraries of CUDA there"
	@echo "(0.4 GB with TORCH_INDEX=https://download.pytorch.org/whl/cpu). This happens once and takes some minutes."
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(INSTALL) --index-url $(TORCH_INDEX) torch torchvision)
	$(INSTALL) --editable .
	@echo "Compiling what was installed, so that the first start need not"
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true  # some packages bring templates that are no Python yet
	@touch $@

env: $(VENV)/.made  ## a virtual environment with everything the app, the tests and the checks need

$(VENV)/.made: $(VENV)/.app requirements.txt requirements-cluster.txt requirements-dev.txt
	@echo "Adding what tests and checks need: about 0.2 GB"
	$(INSTALL) --quiet -r requirements-dev.txt
	@touch $@

# What Python has compiled is kept whatever the environment says: tests start a hundred processes, each of which would
# compile the package anew.
test: env  ## unit, property, app and browser tests
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-kernels: env  ## the numerical tests with all kernels that the libraries have for this processor
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m tests.kernels

fuzz: env  ## every reader on thousands of damaged and odd files, an hour or so, in 16 GB of address space
	ulimit -v 16000000; $(BIN)/python -m pytest tests/security/test_fuzz.py --hypothesis-profile=fuzz --timeout=3600

check: env  ## lint, layers and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
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

# On a machine with a GPU and nothing else to reach, with the Python there that has torch; what else is needed comes as
# wheels, which `make gpu-wheels` fetches beforehand for that machine's version of Python.
GPU_PYTHON ?= python3
GPU_PYTHON_VERSION ?= 3.12
WHEELS := build/wheels
GPU_PACKAGES := open_clip_torch ftfy wcwidth pydantic pydantic-core annotated-types typing-inspection typing-extensions platformdirs

gpu:  ## tests and speed of merges on a GPU, in at most eight minutes; OPTIONS=--large for ViT-L/14 alone
	$(if $(wildcard $(WHEELS)/*.whl),$(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target build/gpu-packages $(WHEELS)/*.whl)
	PYTHONPATH=build/gpu-packages:. $(GPU_PYTHON) -m benchmarks.gpu $(OPTIONS)

gpu-wheels: env  ## what `make gpu` needs besides torch, for Linux on x86-64, into a folder that git ignores
	$(PIP) download --quiet --no-deps --only-binary=:all: --dest $(WHEELS) --implementation cp \
		--python-version $(GPU_PYTHON_VERSION) --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
		--platform manylinux2014_x86_64 $$($(BIN)/python -m benchmarks.wheels $(GPU_PACKAGES))

docs: env  ## the tables in the README and in docs that come from code and from stored results
	$(BIN)/python -m studies.docs

study: env  ## the study of AWD and its page in docs, one to two hours
	$(BIN)/python -m studies.awd
	$(BIN)/python -m studies.related
	$(BIN)/python -m studies.page

study-linearised: env  ## the study of linearised adapters and its page in docs, about half an hour of one core
	$(BIN)/python -m studies.linearised
	$(BIN)/python -m studies.linearised_page

shipped: env  ## the results that come with the embedded suite, an hour or two of one core
	$(BIN)/python -m studies.shipped

screenshots: env  ## the pictures of the README and of docs/dashboard.md
	$(BIN)/python docs/screenshots.py

clean:  ## remove caches and results, not the environment
	rm -rf .merging mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis
