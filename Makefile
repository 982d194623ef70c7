# make demo    train the quickstart cascade on rendered people, then draw a pose on a photograph; results in demo/
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
	@echo
	@echo "The model that comes with the package, on a photograph:"
	$(BIN)/python -m pip install --quiet '.[demo]'
	$(BIN)/python -c 'from skimage import data, io; io.imsave("demo/photo.png", data.camera())'
	$(BIN)/posecascade-predict demo/photo.png --output=demo/poses
	@echo "Look at demo/poses/overlays/photo.jpg."

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
