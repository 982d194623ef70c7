"""Fixtures that several test files share."""

import importlib.util
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings

# A busy machine is no failure: tests never assert on time.
settings.register_profile("any speed", deadline=None, max_examples=60)
settings.load_profile("any speed")

# A shell starts what runs in its background deaf to Ctrl-C, and so are the commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# .ci/run tests the installed package from a copy of the repository elsewhere, and names the data of the original.
SHARED = Path(os.environ.get("POSECASCADE_SHARED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


# The files that take longest, which xdist's processes begin with so that they end together. The first makes the export
# (see `exported`); those that need it come after some that do not, so that no process waits for it.
FIRST = ("test_docs_export", "test_cli_train", "test_recipes", "test_resume", "test_web_page", "test_export_used",
         "test_docs_train", "test_export_serving", "test_export_image_crops", "test_export_certificate",
         "test_export_artifacts", "test_client_served", "test_training_backends", "test_export_images",
         "test_export_network", "test_training")


def pytest_collection_modifyitems(items):
    """Put the tests of FIRST before all others."""
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(FIRST)))


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real annotated people, where a checkout has one beside it."""
    if not SHARED.is_dir():
        pytest.skip("needs the development data in ../shared/data, which are not in the repository")
    return SHARED


@pytest.fixture(scope="module")
def kit():
    """The kit export/device's one file as a module."""
    file = Path(__file__).resolve().parents[1] / "export" / "device" / "pose_tflite.py"
    spec = importlib.util.spec_from_file_location("pose_tflite", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rng():
    """A seeded generator, the same in every test."""
    return np.random.default_rng(20160917)


@pytest.fixture(scope="module")
def stub_networks():
    """The trainer builds a cascade whose steps compile in a second."""
    from small_runs import stub_cascade

    from posecascade.training import build

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "cascade", stub_cascade)
        yield


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """Folder of one version of a SavedModel that answers as an export does, made in a second."""
    from small_served import write

    folder = tmp_path_factory.mktemp("small_model")
    write(folder / "1")
    return folder


@pytest.fixture(scope="session")
def kept(request, tmp_path_factory):
    """A folder that all processes of pytest share, and the next runs too unless the cache is disabled."""
    if hasattr(request.config, "cache"):
        return Path(request.config.cache.mkdir("posecascade"))
    shared = tmp_path_factory.getbasetemp()
    return shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared


@pytest.fixture(scope="session")
def exported(kept):
    """A small trained model and its export, both made by the installed commands, once until a source changes."""
    from exported import built_once

    with FileLock(kept / "exported.lock"):
        return built_once(kept / "exported")
