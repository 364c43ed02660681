# make run    starts Tocsin with a demo week on http://127.0.0.1:8800 (needs python3 3.11+, venv, make)
# make test   proves it: everything, in a real browser and with real processes
# make check  the quick part (ruff, mypy, imports, unit and law tests)
# make words  brings changed texts into the catalogues of api/locale
# make soak   the tests that have a larger number, with it: hours; ONLY=kill (a word of pytest's -k) for a part
# make bench  what it costs; make install Tocsin into .venv only

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PORT   ?= 8800

# Left out of the quick part: what starts a PostgreSQL or a process of its own, waits for a network, or is broken on purpose.
SLOW := tests/engine/test_postgres_store.py tests/api/test_copy.py tests/api/test_backup.py tests/faults tests/planted tests/notices/test_sending.py tests/api/test_kafka_settings.py tests/monitors/test_kafka_network.py

.PHONY: run install test check bench soak lock words clean

run: $(VENV)/.run
	@exec $(BIN)/tocsin serve --demo --port $(PORT) --data $${TOCSIN_DATA:-data/demo}

install: $(VENV)/.run

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Tocsin needs Python 3.11 or newer; '$(PYTHON)' is not. Install one and run: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.python requirements/run.txt pyproject.toml
	@echo "installing Tocsin into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/test.txt
	@touch $@

test: $(VENV)/.test
	@tests/needs.sh
	@$(BIN)/python -m tests.services.kafka
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not process and not kafka" tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "process or kafka" tests
	@! tests/needs.sh has postgresql || TESTS_ON=postgres $(BIN)/python -m pytest -n 2 --dist loadfile -m "not process and not browser and not files and not kafka" tests
	@tests/needs.sh after

check: $(VENV)/.test
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not process and not browser and not kafka" $(SLOW:%=--ignore=%) tests

.PHONY: lint
lint:
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(VENV)/.test
	@$(BIN)/python -m benchmarks

soak: $(VENV)/.test
	@tests/needs.sh
	@$(BIN)/python -m tests.soak
	@$(BIN)/python -m tests.services.kafka
	@TOCSIN_SOAK=1 $(BIN)/python -m pytest -vv -s -m soak $(if $(ONLY),-k "$(ONLY)") --durations=0 --durations-min=5 \
	  -o tmp_path_retention_policy=failed -o tmp_path_retention_count=1 tests
	@tests/needs.sh after

words:
	@$(BIN)/pybabel -q extract -F api/locale/babel.cfg -k mark -k translate -k many:1,2 -k InvalidInput:2 -k Phrase:1 -k required:3 -k plain_name:3 \
	  -k NotFound:1 -k NotAllowed -k Conflict --no-location --sort-output --omit-header -o api/locale/tocsin.pot .
	@for name in api/locale/*.po; do language=$$(basename $$name .po); $(BIN)/pybabel -q update -i api/locale/tocsin.pot -o $$name \
	  -l $$language --omit-header --ignore-obsolete --no-fuzzy-matching; done

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" \
	  pyproject.toml requirements/build.in -o requirements/run.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" \
	  -c requirements/run.txt --extra test pyproject.toml requirements/build.in -o requirements/test.txt

clean:
	rm -rf $(VENV) build dist *.egg-info
