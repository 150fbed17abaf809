"""The scripts of `benchmarks/`, which are no part of the package, within reach of the tests."""

import runpy
import sys
from pathlib import Path

import pytest

from tests.threads import one_thread  # noqa: F401 - a fixture for every test here

FOLDER = Path(__file__).parents[2] / "benchmarks"

sys.path.insert(0, str(FOLDER))


@pytest.fixture
def script(capsys):
    """Run a script in this process and return what it printed: on the standard output, and on the standard error."""

    def run(name, *arguments):
        assert runpy.run_path(str(FOLDER / f"{name}.py"))["main"]([str(part) for part in arguments]) == 0
        return tuple(capsys.readouterr())

    return run
