# Run `make` to see what there is. Every target sets itself up: .venv and everything in it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RAY := .venv-ray
MANIFESTS := $(wildcard */pyproject.toml) constraints.txt requirements-dev.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test test-slow test-elsewhere check bench network-table precision flame bench-server bench-clients bench-switches faults hostile image image-training ablation ablation-network ablation-paper bench-finetune paper bounds unseen

help:  ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Create .venv and install skinoct, its server, training and Fiji plugin

$(STAMP): $(MANIFESTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "skinoct needs Python 3.11 or newer, not %s; run: make PYTHON=/path/to/python3.11" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt \
	    -r requirements-dev.txt -e "models[torch,openvino]" -e server -e training -e fiji-plugin
	touch $(STAMP)

demo: $(STAMP)  ## Segment a phantom tomogram through a running server; results in demo/
	$(BIN)/python tests/e2e/demo.py

serve: $(STAMP)  ## Run the server with the shipped checkpoints on http://127.0.0.1:8000
	$(BIN)/skinoct-server serve

test: $(STAMP)  ## Run every fast test (about 15 minutes on two cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "$(FAST)" $(addprefix --ignore=,$(TIMED))
	$(BIN)/python -m pytest -m "$(FAST)" $(TIMED)

FAST := not slow and not elsewhere
# These measure times and run alone; the others run side by side, each worker with a screen and a mouse of its own.
TIMED := $(addprefix tests/server/test_,admission.py faults.py health.py)

test-slow: $(STAMP)  ## Run the tests that take minutes: the largest image, the benchmarks in short, a fine-tune
	$(BIN)/python -m pytest -m slow tests/models tests/training tests/server/test_short_forms.py

test-elsewhere: $(RAY)/.installed  ## Run the examples for Ray Serve and MATLAB (needs the Debian packages octave and curl)
	$(BIN)/python -m pytest -m elsewhere tests/contract tests/server

# Ray is large and brings its own choice of packages: it lies over .venv and leaves it as it is.
$(RAY)/.installed: $(STAMP)
	rm -rf $(RAY)
	$(BIN)/python -m venv $(RAY)
	$(BIN)/python -c 'import sysconfig as s; print("import site; site.addsitedir(%r)" % s.get_path("purelib"))' \
	    > $$($(RAY)/bin/python -c 'import sysconfig as s; print(s.get_path("purelib"))')/over-venv.pth
	$(RAY)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt "ray[serve]"
	touch $@

check: $(STAMP)  ## Lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)  ## Measure seconds per tomogram; writes docs/benchmarks.md
	$(BIN)/python tests/e2e/bench.py --repeat $(REPEATS)

REPEATS ?= 3

network-table: $(STAMP)  ## Print size, arithmetic and speed of U-Nets of other widths and stems
	$(BIN)/python tests/e2e/network_table.py

precision: $(STAMP)  ## Measure what bfloat16 changes on the default checkpoint; writes docs/precision.md
	$(BIN)/python tests/e2e/precision.py

flame: $(STAMP)  ## Draw where the time of a tomogram goes: docs/images/flame.svg
	$(BIN)/python tests/e2e/flame.py

bench-server: $(STAMP)  ## Measure the running server; adds to docs/benchmarks.md
	$(BIN)/python tests/server/bench.py

bench-clients: $(STAMP)  ## 64 clients with 100 MB each, at most 15 minutes; adds to docs/benchmarks.md
	$(BIN)/python tests/server/load.py clients

bench-switches: $(STAMP)  ## 1,000 model switches under load, at most 10 minutes; adds to docs/benchmarks.md
	$(BIN)/python tests/server/load.py switches

ablation: data/ablation data/ablation-held-out  ## What each part of the training gives, 24 trainings; writes docs/ablation.md
	$(ABLATE) --part recipe
	cp runs/ablation/ablation.md docs/ablation.md

ablation-network: data/ablation data/ablation-held-out  ## Other networks beside ours, 7 trainings; adds to docs/ablation.md
	$(ABLATE) --part network
	cp runs/ablation/ablation.md docs/ablation.md

ablation-paper: data/ablation data/ablation-held-out  ## The paper's recipe beside ours; adds to docs/ablation.md
	$(ABLATE) --part paper
	cp runs/ablation/ablation.md docs/ablation.md

THREADS ?= $(shell nproc)
ABLATE = $(BIN)/skinoct-train ablate data/ablation --held-out data/ablation-held-out --out runs/ablation \
    --threads $(THREADS)

data/ablation: | $(STAMP)
	rm -rf $@.partial
	$(BIN)/skinoct-train phantom $@.partial --tomograms 280 --slices 5 --seed 71 --family mixed --jobs 2
	mv $@.partial $@

data/ablation-held-out: | $(STAMP)
	rm -rf $@.partial
	$(BIN)/skinoct-train phantom $@.partial --tomograms 84 --slices 4 --seed 72 --family mixed --jobs 2
	mv $@.partial $@

bench-finetune: $(STAMP)  ## Fine-tune the default checkpoint on one tomogram, twice, about 20 minutes; writes docs/fine-tuning.md
	$(BIN)/python tests/e2e/finetune.py

paper: $(STAMP)  ## Train the paper's recipe and ours on the same four tomograms, about 50 minutes; writes docs/paper.md
	$(BIN)/python tests/e2e/paper.py --threads $(THREADS)

bounds: $(STAMP)  ## Measure what bounds the DEJ on phantoms; writes docs/bounds.md
	$(BIN)/python tests/e2e/bounds.py --threads $(THREADS)

unseen: $(STAMP)  ## Measure the default checkpoint on skin of another generator; writes docs/unseen.md
	PYTHONPATH=tests $(BIN)/python -m unseen.measure --threads $(THREADS)

faults: $(STAMP)  ## Kill, stop and starve a server, and see that nothing is lost; adds to docs/benchmarks.md
	$(BIN)/python -m pytest tests/server/test_faults.py tests/server/test_admission.py \
	    tests/server/test_models.py tests/server/test_codec.py tests/server/test_together.py -v
	$(BIN)/python tests/server/faults.py

hostile: $(STAMP)  ## Send hostile files, 100 000 mutations and fuzzed requests
	$(BIN)/python tests/server/hostile.py
	$(BIN)/python tests/server/mutations.py --count 100000
	$(BIN)/python -m pytest tests/server/test_hostile.py -v -m "not slow"

image:  ## Build docker/server.Dockerfile without Docker and have it answer (root; apt-get install buildah debootstrap)
	docker/build-without-docker server

image-training:  ## Build docker/training.Dockerfile without Docker and have it train for a minute (as for make image)
	docker/build-without-docker training
