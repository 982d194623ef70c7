# make demo    predict the pose on a photograph, then train the quickstart on rendered people; results in demo/
# make test    run the tests, but for the slow ones, which repeat others on another backend or in another process
# make test-all  run all tests, as .ci/run does
# make docs    build the documentation site into site/
# make clean   remove what these made
#
# Everything is installed into .venv, which is made with PYTHON (make demo PYTHON=python3.12). The installation downloads
# 0.8 GB and takes 2.7 GB on disk (3.5 GB with the tools for tests and site). After it, on two CPU cores: the photograph takes 10 seconds, the training 3 minutes,
# the tests 6 minutes, the site 20 seconds.

PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
SOURCES = setup.cfg pyproject.toml $(shell find posecascade recipes -type f -not -name '*.pyc')

.PHONY: demo test test-all docs clean

demo: $(VENV)/installed
	@mkdir -p demo
	$(BIN)/python -c 'from skimage import data, io; io.imsave("demo/photo.png", data.camera())'
	$(BIN)/posecascade-predict demo/photo.png --output=demo/poses
	@echo
	@echo "The pose on a photograph, by the model that comes with the package: look at demo/poses/overlays/photo.jpg"
	@echo
	@echo "Now a training of a tiny model on rendered people, about three minutes on two CPU cores:"
	$(BIN)/posecascade-train --recipe=quickstart --model_dir=demo
	@echo
	@echo "The results are in demo/: predictions.jpg (look at it), curve.png, metrics.json, best.keras."

test: $(VENV)/editable
	$(BIN)/python -m pytest

test-all: $(VENV)/editable
	$(BIN)/python -m pytest -m ''

# A site needs no network once the packages are installed.
docs: $(VENV)/editable
	NO_MKDOCS_2_WARNING=1 TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html, or run: $(BIN)/python -m mkdocs serve"

clean:
	rm -rf $(VENV) demo site build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

# Only the last of the two installations counts, so each removes the other's mark. build/ is removed because a deleted
# module would be installed again from there.
$(VENV)/installed: $(SOURCES) | $(BIN)/pip
	$(BIN)/python -m pip install '.[demo]'
	rm -rf build
	rm -f $(VENV)/editable
	touch $@

$(VENV)/editable: setup.cfg pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install -e '.[dev]'
	rm -f $(VENV)/installed
	touch $@

# Without python3-venv, `venv` fails and leaves half an environment behind.
$(BIN)/pip:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "venv failed: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
