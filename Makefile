# Every command of this project. The environment .venv is made on first use, with the exact versions of constraints.txt.
# Variables: PYTHON (3.11 or newer), VENV, COVERAGE=1 (measure while testing), PYTEST_ARGS, BENCH_ARGS, CONFIG (of `make demo`).
PYTHON ?= python3
VENV ?= .venv
CONFIG ?= configs/sentinel.yaml
PYTEST_ARGS ?=
BENCH_ARGS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
# files go to processes in the order that tests/conftest.py gives them
PYTEST = pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)
# line coverage is enforced where a mistake would alter pixels
CORE := pipeline/geometry/*,pipeline/plan/*,pipeline/blocks/*,pipeline/formats/*

.DEFAULT_GOAL := help
.PHONY: help demo test oldest coverage coverage-report lint types schema docs site quality bench build constraints clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
		{ echo "Python's venv is missing; on Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV), once; torch takes some minutes" >&2
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade 'pip>=25.1'
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) --editable . --group test --group lint --group types
	@touch $@

demo: $(VENV)/.run  ## Restore a cloudy synthetic scene and say where the report is
	$(BIN)/inpaint-pipeline run $(CONFIG)
	@directory=$$($(BIN)/inpaint-pipeline config show $(CONFIG) | sed -n 's/^ *"directory": "\(.*\)".*/\1/p'); \
		echo "open in a browser:"; ls "$$directory"/*/report.html

# the core must be covered by the tests of its parts alone: measuring makes tests half as slow again
COVERED := tests/cases/test_headers.py tests/cases/test_scenes.py tests/contracts/test_formats.py \
	tests/contracts/test_masks.py tests/differential/test_blend_oracle.py tests/differential/test_readers.py \
	tests/faults/test_hostile_files.py tests/faults/test_hostile_vrt.py \
	$(addprefix tests/properties/test_,formats_identity.py identity_run.py lattice.py) \
	$(addprefix tests/unit/test_,block_values.py box.py drive.py gpus.py input_facts.py journal_lock.py orientation.py \
	resample.py scan_resources.py seams.py space.py survey_cost.py verify_codes.py workspace.py zarr_cube.py) \
	$(wildcard tests/unit/test_formats_*.py)
test: export OMP_NUM_THREADS = 1
test: $(VENV)/.dev  ## Run all tests (real images: set INPAINT_DATA)
ifdef COVERAGE
	@failed=0; $(BIN)/python -m coverage run -m $(PYTEST) $(COVERED) || failed=1; \
		$(BIN)/python -m $(PYTEST) $(COVERED:%=--ignore=%) || failed=1; exit $$failed
else
	$(BIN)/python -m $(PYTEST)
endif

# old packages lie before those of the environment, whose PyTorch they use
OLDEST := .cache/oldest
OLD_TESTS := $(addprefix tests/contracts/test_,fills.py formats.py masks.py models.py) $(addprefix tests/unit/test_,beyond.py \
	evaluation.py formats_geotiff.py formats_nifti.py formats_zarr.py masks_vector.py references.py seams.py selftest_rim.py \
	workspace.py) $(wildcard tests/unit/test_fills_*.py)
$(OLDEST)/.made: pyproject.toml tests/oldest.py $(VENV)/.dev
	rm -rf $(OLDEST)
	mkdir -p $(OLDEST)
	$(BIN)/python -m tests.oldest > $(OLDEST)/requirements.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-warn-conflicts --target $(OLDEST)/packages -r $(OLDEST)/requirements.txt
	@touch $@

# libraries of today tell old ones that they will change
oldest: export OMP_NUM_THREADS = 1
oldest: $(OLDEST)/.made  ## Test what depends on other packages with the oldest that pyproject.toml allows
	PYTHONPATH=$(OLDEST)/packages $(BIN)/python -m $(PYTEST) -W ignore::DeprecationWarning $(OLD_TESTS)

coverage:  ## Run all tests, then check the line coverage of the core
	@rm -f .coverage .coverage.*
	@$(MAKE) --no-print-directory test COVERAGE=1
	@$(MAKE) --no-print-directory coverage-report

coverage-report: $(VENV)/.dev  ## Check what `make test COVERAGE=1` has measured
	@if ls .coverage.* >/dev/null 2>&1; then $(BIN)/python -m coverage combine --quiet; fi
	$(BIN)/python -m coverage report --include='$(CORE)' --fail-under=95

lint: $(VENV)/.dev  ## Style, spelling, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports --no-cache

types: $(VENV)/.dev  ## Check the types
	$(BIN)/mypy

schema: $(VENV)/.run  ## Write configs/schema.json for editors
	$(BIN)/inpaint-pipeline config schema > configs/schema.json.new && mv configs/schema.json.new configs/schema.json

docs: $(VENV)/.run  ## Write docs/cli.md from the commands' help and docs/config.md from the schema
	$(BIN)/python docs/make_cli.py
	$(BIN)/python docs/make_config.py

$(VENV)/.docs: $(VENV)/.run
	$(PIP) --group docs
	@touch $@

site: $(VENV)/.docs  ## Build the documents as a site into build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

quality: $(VENV)/.run  ## Measure restoration quality on real images (INPAINT_DATA) and write docs/quality.md
	$(BIN)/python -m benchmarks.quality --draws 3 --write

$(VENV)/.bench: $(VENV)/.run
	$(PIP) --editable . --group bench
	@touch $@

bench: $(VENV)/.bench  ## Measure what runs cost beside other tools and write docs/performance.md (BENCH_ARGS)
	$(BIN)/python -m benchmarks.speed --write $(BENCH_ARGS)

build: $(VENV)/.dev  ## Build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

constraints: $(VENV)/.dev  ## Write the versions of this environment to constraints.txt
	@{ sed '/^pip>=/q' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//'; } > constraints.new
	mv constraints.new constraints.txt

clean:  ## Remove what can be made again, but not out/
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* dist build
