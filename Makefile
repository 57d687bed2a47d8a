# `make demo`: environment, a real run on the synthetic corpus, and one file classified with the model just trained.
# `make test`: environment, lint, all tests.
PYTHON ?= python3
BIN := .venv/bin
DEMO_RUN := runs/demo

.PHONY: demo test lint install clean

install: .venv/installed

# Made anew where the list of what is installed has changed.
.venv/installed: setup.py constraints.txt src/hf_musiclf/__init__.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: install
	$(BIN)/accelerate launch --cpu recipes/ast_gtzan.py --config recipes/configs/demo.yaml --output_dir $(DEMO_RUN) \
	    --overwrite_output_dir True
	$(BIN)/python -m hf_musiclf.data.synthetic reggae $(DEMO_RUN)/reggae.wav
	$(BIN)/python scripts/predict.py $(DEMO_RUN) $(DEMO_RUN)/reggae.wav
	@echo "report: $(DEMO_RUN)/report.json    card: $(DEMO_RUN)/README.md    pictures: $(DEMO_RUN)/report/"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

clean:
	rm -rf .venv build src/*.egg-info
