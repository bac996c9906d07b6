# make train | ablation | campaign | figures | pages | benchmark | gpu | test | soak | browser-test | lint | lab; each first sets up what it needs.
# ARGS are passed to the command of a target: make train ARGS="-p loss ce -p seed 1"

PYTHON ?= $(shell for python in python3.12 python3.11 python3; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
READY := .venv/ready
SETTINGS := .venv/share/jupyter/lab/settings
# --log-output prints what the notebook prints: a line an epoch.
PAPERMILL := $(BIN)/papermill --kernel python3 --no-progress-bar --log-output
# The runs that `make figures` draws: those that ship with the project, or RUNS=runs for your own.
RUNS ?= runs/reference
FIGURES := $(RUNS:runs%=runs/figures%)

.PHONY: setup train ablation campaign figures pages benchmark gpu test soak browser browser-test lint format lab

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: needs Python 3.11 or 3.12 with venv; name one with PYTHON=" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@$(BIN)/python -m tcl_lib.utils.provenance
	@touch $@

train: setup
	@mkdir -p runs
	$(PAPERMILL) notebooks/train.ipynb runs/train.ipynb $(ARGS)

ablation: setup
	@mkdir -p runs
	$(PAPERMILL) notebooks/ablation.ipynb runs/ablation.ipynb $(ARGS)

# The runs of recipes/campaign.yaml that are not finished; make campaign ARGS="digits --workers 2", ARGS=--status.
campaign: setup
	$(BIN)/python -m tcl_lib.training.campaign recipes/campaign.yaml $(ARGS)

# The two notebooks run at the same time; neither trains anything.
figures: setup
	@mkdir -p $(FIGURES)
	@draw() { $(PAPERMILL) notebooks/$$1.ipynb $(FIGURES)/$$1.ipynb \
		-p runs_dir $(RUNS) -p figures_dir $(FIGURES); }; \
	export OMP_WAIT_POLICY=passive; draw similarity & draw figures; figures=$$?; wait $$! && exit $$figures
	@echo "$(FIGURES)/index.html shows $$(find $(FIGURES) -name '*.txt' | wc -l) figures"

# Executed notebooks as HTML in docs/: make pages PAGES=explore for another.
PAGES ?= train findings
pages: setup
	@mkdir -p runs
	@for name in $(PAGES); do \
		$(PAPERMILL) notebooks/$$name.ipynb runs/$$name.ipynb $(ARGS) && \
		$(BIN)/jupyter nbconvert --to html --stdout runs/$$name.ipynb > runs/$$name.html && \
		sed 's|$(CURDIR)/||g' runs/$$name.html > docs/$$name.html || exit 1; \
	done

benchmark: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]" -e benchmarks
	@mkdir -p runs
	$(PAPERMILL) notebooks/benchmark.ipynb runs/benchmark.ipynb $(ARGS)

# What a machine with a GPU should check and measure, into runs/gpu; elsewhere ARGS=--rehearse.
gpu: setup
	$(BIN)/python -m benchmarks.gpu $(ARGS)

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

# Slow tests: the tests of faults many times over, and a few others.
soak: setup
	$(BIN)/python -m pytest -m soak $(ARGS)

# A Chromium for the tests in JupyterLab: an installed one, Debian's, or Playwright's.
browser: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,browser]"
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null \
		|| apt-get install -y chromium || $(BIN)/playwright install chromium

browser-test: browser
	$(BIN)/python -m pytest tests/notebooks/test_browser.py -m soak $(ARGS)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lab: setup
	@mkdir -p $(SETTINGS)
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}' > $(SETTINGS)/overrides.json
	PYTHONPATH=$(CURDIR) $(BIN)/jupyter lab $(ARGS)  # benchmark.ipynb imports the folder benchmarks/
