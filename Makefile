# From a fresh clone, `make demo` and `make test` set up all they need in .venv and run.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install --quiet --disable-pip-version-check

# On a machine with a GPU: make demo REQUIREMENTS=requirements-gpu.txt
REQUIREMENTS ?= requirements.txt

CPP_PACKAGES := cmake g++ libjpeg-dev libpng-dev libyaml-cpp-dev

.PHONY: help demo test test-all test-cpp test-pythons faults faults-long align deploy serving lint format clean

help:
	@echo "make demo       train, evaluate, predict, export and infer on real images; pictures in output/demo"
	@echo "make test       all fast tests"
	@echo "make align      install PyTorch, the reference of the alignment tool (docs/alignment.md)"
	@echo "make deploy     install ONNX Runtime and OpenVINO (docs/deployment.md)"
	@echo "make serving    install what the service needs (docs/serving.md)"
	@echo "make test-cpp   build the C++ program and test it (deploy/cpp/README.md)"
	@echo "make test-pythons  train to infer on a few images with each Python from 3.10 to 3.13 that this machine has"
	@echo "make faults     kill, cut, flip and fill up what a training must survive (docs/reliability.md)"
	@echo "make lint       ruff: rules and format"
	@echo "make clean      remove .venv, output, build and caches"

demo: $(VENV)/.demo
	$(PY) -m demo.run

# As many processes as processors; the tests of one file share its fixtures, so they stay in one process. The order of
# the files is that of tests/conftest.py. pytest-xdist would wait for ever after it has replaced a process that died.
test: $(VENV)/.dev
	$(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test-all: $(VENV)/.dev
	$(PY) -m pytest -m ""

align: $(VENV)/.align

deploy: $(VENV)/.deploy

serving: $(VENV)/.serving

test-cpp: $(VENV)/.dev
	@dpkg -s $(CPP_PACKAGES) > /dev/null 2>&1 || if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; \
	then apt-get update -qq && apt-get install -y -qq $(CPP_PACKAGES); \
	else echo "needed, and installed by the system's packages: $(CPP_PACKAGES)"; fi
	cmake -S deploy/cpp -B build/cpp -DOpenVINO_DIR=$$($(PY) -c "from openvino.utils import get_cmake_path as p; print(p())")
	cmake --build build/cpp --parallel 2
	$(PY) -m pytest -m cpp tests/deploy/cpp

test-pythons: $(VENV)/.demo
	$(PY) -m tests.pythons

faults: $(VENV)/.dev
	$(PY) -m tests.faults all --no_record

faults-long: $(VENV)/.dev
	$(PY) -W ignore -m tests.faults all --long
	$(PY) -m tests.faults.table

lint: $(VENV)/.lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(VENV)/.lint
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf $(VENV) $(VENV)-3.* output build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each mark says that a requirements file is installed; a changed file installs again.
$(VENV)/.base: $(REQUIREMENTS)
	@test -x $(PY) || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing $(REQUIREMENTS)"; $(PIP) -r $(REQUIREMENTS)
	@touch $@

$(VENV)/.demo: requirements-demo.txt $(VENV)/.base
	@echo "installing $<"; $(PIP) -r $<
	@touch $@

$(VENV)/.deploy: requirements-deploy.txt $(VENV)/.base
	@echo "installing $<"; $(PIP) -r $<
	@touch $@

$(VENV)/.serving: requirements-serving.txt $(VENV)/.deploy
	@echo "installing $<"; $(PIP) -r $<
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.demo $(VENV)/.serving
	@echo "installing $<"; $(PIP) -r $<
	@touch $@

$(VENV)/.lint: requirements-dev.txt
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PIP) $$(grep '^ruff' $<)
	@touch $@

# torch first, by itself; then the rest without what it asks for: torchvision's wheel asks for a CUDA build of torch.
$(VENV)/.align: requirements-align.txt $(VENV)/.base
	@echo "installing $< (PyTorch and torchvision on the CPU, the reference of the alignment tool)"
	@$(PIP) $$(grep '^torch==' $<)
	@$(PIP) --no-deps -r $<
	@touch $@
