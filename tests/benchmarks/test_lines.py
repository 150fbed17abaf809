"""Files of JSON lines survive a crash in the middle of a write."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gradiometer.benchmarks import lines
from gradiometer.errors import ArtefactError


@dataclass(frozen=True)
class Figure:
    name: str
    parts: dict[str, float]
    schema: int = 1

    @property
    def key(self) -> tuple[str, ...]:
        return (self.name,)


FIRST, SECOND = Figure("first", {"low": 0.1, "high": 0.2}), Figure("second", {"low": 0.3})


def write(path: Path, figure: Figure) -> None:
    lines.append(path, json.dumps(vars(figure)))


def read(path: Path) -> list[Figure]:
    def make(entries: dict[str, Any]) -> Figure:
        return Figure(**entries)

    return lines.latest(path, make, what="figure", schema=1)


@pytest.mark.parametrize("kept", [1, 5, 20, 40])
def test_what_a_crash_cut_short_is_passed_over_and_the_next_record_is_whole(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "figures.jsonl"
    write(path, FIRST)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:kept])
    assert read(path) == [FIRST]
    write(path, SECOND)
    assert read(path) == [FIRST, SECOND]


def test_a_record_that_only_lacks_the_end_of_its_line_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "figures.jsonl"
    write(path, FIRST)
    path.write_bytes(path.read_bytes()[:-1])
    assert read(path) == [FIRST]
    write(path, SECOND)
    assert read(path) == [FIRST, SECOND]
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("line", ["no record", '{"name": "fir{"name": "second"}', '{"name": "first"}', "[]"])
def test_other_lines_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "figures.jsonl"
    write(path, FIRST)
    lines.append(path, line)
    with pytest.raises(ArtefactError, match=r"line 2 is no figure .*delete this line"):
        read(path)
