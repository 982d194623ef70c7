# make demo    train the quickstart cascade on rendered people and measure it; results in demo/
# make test    run the tests
# make clean   remove what these made
#
# Everything is installed into .venv, made with PYTHON (make demo PYTHON=python3.12).

PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
SOURCES = setup.cfg pyproject.toml $(shell find posecascade recipes -name '*.py' -o -name '*.yaml')

.PHONY: demo test clean

demo: $(VENV)/installed
	$(BIN)/posecascade-train --recipe=quickstart --model_dir=demo
	@echo
	@echo "The results are in demo/: predictions.jpg (look at it), curve.png, metrics.json, best.keras."
	@echo "Try the model: $(BIN)/posecascade-predict PHOTO --model=demo --output=out"

test: $(VENV)/editable
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

# Of the two ways to be installed only the last one counts, so each removes the other's mark. A module that was removed
# would come back out of build/.
$(VENV)/installed: $(SOURCES) | $(BIN)/pip
	$(BIN)/python -m pip install .
	rm -rf build
	rm -f $(VENV)/editable
	touch $@

$(VENV)/editable: setup.cfg pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install -e '.[dev]'
	rm -f $(VENV)/installed
	touch $@

# Where python3-venv is missing, half an environment would be left.
$(BIN)/pip:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
