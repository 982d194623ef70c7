"""The package itself: its public names, and that importing it loads no backend."""

import subprocess
import sys

import pytest

import posecascade


def test_importing_it_loads_no_backend():
    code = "import sys, posecascade; print(sorted({'keras', 'tensorflow', 'jax', 'torch', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_public_name_is_there_and_others_are_refused():
    for name in posecascade.__all__:
        assert getattr(posecascade, name).__doc__
    assert posecascade.__version__.split(".")[0].isdigit()
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        posecascade.lode  # noqa: B018
