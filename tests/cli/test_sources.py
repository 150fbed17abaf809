"""Names of images on the command line, and the progress that only a terminal sees."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from gradiometer.cli.sources import Named, Reading, join, load, parse
from gradiometer.cli.terminal import Terminal
from gradiometer.data import Images
from gradiometer.errors import InputError


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("digits", Named("digits")),
        ("CIFAR10:train", Named("CIFAR10", "train")),
        ("a/b.npz:test@0-30", Named("a/b.npz", "test", (0, 30))),
        ("digits@50-100", Named("digits", None, (50, 100))),
        (r"C:\scans\x.npz", Named(r"C:\scans\x.npz")),
        ("me@home/photos", Named("me@home/photos")),
    ],
)
def test_parse(text: str, named: Named) -> None:
    assert parse(text) == named


def test_a_path_that_exists_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans:2024").mkdir()
    assert parse("scans:2024") == Named("scans:2024")
    assert parse("scans:x2024") == Named("scans", "x2024")


@pytest.mark.parametrize("text", ["digits@0-55", "digits@40-40", "digits@60-40", "digits@90-110"])
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="tens of percent"):
        parse(text)


def test_shares_divide_the_source() -> None:
    reading = Reading()
    parts = [load(f"digits@{low}-{high}", reading) for low, high in [(0, 40), (40, 50), (50, 100)]]
    names = [set(part.names) for part in parts]
    assert set.union(*names) == set(load("digits", reading).names)
    assert sum(map(len, names)) == 1797
    # Class by class: each share has its part of every digit.
    for part, share in zip(parts, (0.4, 0.1, 0.5), strict=True):
        assert part.labels is not None
        counts = torch.bincount(part.labels, minlength=10)
        assert counts.min() >= share * 174 - 6
        assert counts.max() <= share * 183 + 6
    assert set(load("digits@0-20", reading).names) < names[0]
    whole = load("digits", reading)
    place = {name: row for row, name in enumerate(whole.names)}
    rows = [place[name] for name in parts[0].names]
    assert torch.equal(parts[0].images, whole.images[rows])
    assert parts[0].labels is not None
    assert whole.labels is not None
    assert torch.equal(parts[0].labels, whole.labels[rows])


def test_limit_shape_and_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(
        tmp_path / "scans.npz",
        train_images=np.zeros((20, 9, 9, 3), np.uint8),
        test_images=np.ones((5, 9, 9, 3), np.uint8),
    )
    reading = Reading(data_root=str(tmp_path))
    assert load("scans:train", reading).images.shape == (20, 3, 9, 9)
    assert load("scans:train", reading, limit=7).images.shape == (7, 3, 9, 9)
    assert load("scans:test", reading, shape=(1, 4, 6)).images.shape == (5, 1, 4, 6)
    assert load("scans:test", Reading(data_root=str(tmp_path), size=5), shape=(1, 4, 6)).images.shape == (5, 1, 5, 5)
    assert len(load("scans:train@0-50", reading, limit=4)) == 4
    monkeypatch.setenv("GRADIOMETER_DATA_ROOT", str(tmp_path))
    assert len(load("scans:test", Reading())) == 5


def test_join_keeps_base_images_of_different_sources_apart() -> None:
    first = Images.of(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), [0, 1, 0], name="a")
    second = Images.of(torch.ones(2, 1, 2, 2, dtype=torch.uint8), [1, 1], name="b")
    both = join([first, second])
    assert both.groups.tolist() == [0, 1, 2, 3, 4]
    assert both.names == ("a#0", "a#1", "a#2", "b#0", "b#1")
    assert both.labels is None


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_for_terminals_and_leaves_nothing(is_terminal: bool) -> None:
    terminal, written = Terminal(), io.StringIO()
    terminal.err = Console(file=written, force_terminal=is_terminal, width=80)
    with terminal.progress() as progress:
        progress("images", 1, 4)
        progress("images", 4, 4)
    assert ("images" in written.getvalue()) == is_terminal
    if not is_terminal:
        assert written.getvalue() == ""


def test_text_with_brackets_comes_out_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.show("[red]x[/red] " + "y" * 200)
    terminal.error("in [0, 1]")
    terminal.warn(UserWarning("a\nb"), UserWarning, "file", 1)
    said = capsys.readouterr()
    assert said.out == "[red]x[/red] " + "y" * 200 + "\n"
    assert said.err == "gradiometer: error: in [0, 1]\ngradiometer: warning: a b\n"


@pytest.mark.parametrize("source", ["digits@0-50", "digits"])
def test_a_limit_below_one_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="limit is -1; give 1 or more"):
        load(source, Reading(), limit=-1)
