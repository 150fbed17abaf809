"""The scripts of `examples/`, which are no part of the package, within reach of the tests."""

import json
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.threads import one_thread  # noqa: F401 - a fixture for every test here

FOLDER = Path(__file__).parents[2] / "examples"

sys.path.insert(0, str(FOLDER))


@pytest.fixture
def script():
    """The names of a script, without running it."""
    return lambda name: runpy.run_path(str(FOLDER / f"{name}.py"))


@pytest.fixture
def record(script, tmp_path, capsys):
    """Run a script with little of everything; its record, after a look at the two files."""

    def run(name, *arguments, written=None):
        written = written or name
        assert script(name)["main"](["--quick", "--out", str(tmp_path), *map(str, arguments)]) == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == [f"{written}.json", f"{written}.svg"]
        root = ElementTree.parse(tmp_path / f"{written}.svg").getroot()  # noqa: S314 - our own output
        assert [child.tag.rpartition("}")[2] for child in root][:3] == ["style", "title", "desc"]
        text = (tmp_path / f"{written}.json").read_text(encoding="utf-8")
        assert text.strip() in capsys.readouterr().out
        return json.loads(text, parse_constant=lambda value: pytest.fail(f"{value} in a record"))

    return run
