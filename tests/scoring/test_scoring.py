"""What is in the file: every row once, in order, with the scores of the detector, in every format the same."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from torch import nn

from gradiometer import data, scoring
from gradiometer.detectors import MSP
from gradiometer.errors import DependencyError, InputError, NotFittedError
from gradiometer.scoring import formats


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, by other means than those that wrote it."""
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = {"prediction": int, "confidence": float, "score": float, "p_value": float, "trustworthy": "true".__eq__}
    return [{key: kinds.get(key, str)(value) if value else None for key, value in row.items()} for row in rows]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_are_those_of_judge(suffix: str, detector: MSP, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / f"scores{suffix}"
    summary = scoring.score(detector, folder, out)
    rows = read(out)
    assert [Path(row["name"]).name for row in rows] == [f"{number:03}.png" for number in range(50)]
    assert tuple(rows[0]) == scoring.COLUMNS
    with pytest.warns(UserWarning, match="3 of 50 images"):
        readable = data.load(folder)
    verdict = detector.judge(readable)
    scored = [row for row in rows if row["error"] is None]
    assert [row["name"] for row in scored] == list(readable.names)
    # Equal to the last bit, although broken images stand between the others.
    assert [row["score"] for row in scored] == verdict.scores.tolist()
    assert [row["p_value"] for row in scored] == verdict.p_values.tolist()
    assert [row["confidence"] for row in scored] == verdict.confidences.tolist()
    assert [row["prediction"] for row in scored] == verdict.predictions.tolist()
    assert [row["trustworthy"] for row in scored] == verdict.trustworthy.tolist()
    assert all((row["reason"] is None) == row["trustworthy"] for row in scored)
    assert (summary.tally.rows, summary.tally.failures) == (50, 3)
    assert summary.tally.flagged == np.count_nonzero(~verdict.trustworthy)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", out.name]


def test_an_image_that_cannot_be_read_is_a_row_with_the_reason(detector: MSP, folder: Path, tmp_path: Path) -> None:
    scoring.score(detector, folder, tmp_path / "scores.jsonl")
    rows = read(tmp_path / "scores.jsonl")
    broken = [number for number, row in enumerate(rows) if row["error"] is not None]
    assert broken == [3, 4, 49]
    assert rows[3] == {**dict.fromkeys(scoring.COLUMNS), "name": str(folder / "a/003.png"), "error": rows[3]["error"]}
    assert "cannot be decoded" in rows[3]["error"]


def test_all_formats_hold_the_same(detector: MSP, folder: Path, tmp_path: Path) -> None:
    found = []
    for suffix in (".csv", ".jsonl", ".parquet"):
        scoring.score(detector, folder, tmp_path / f"scores{suffix}")
        found.append(read(tmp_path / f"scores{suffix}"))
    assert found[0] == found[1] == found[2]


def test_text_that_is_awkward_survives_every_format(tmp_path: Path) -> None:
    rows = [
        scoring.Row('a "quoted", path\nwith é and 漢.png', error="line\nbreak, comma"),
        scoring.Row("b", 1, 0.1 + 0.2),
        scoring.Row("a bare\rreturn", 1, 0.5),
    ]
    for suffix in (".csv", ".jsonl", ".parquet"):
        form = formats.format_of(Path(suffix[1:]).with_suffix(suffix))
        partial, out = tmp_path / "partial", tmp_path / f"out{suffix}"
        partial.write_bytes(form.start() + form.encode(rows[:1]) + form.encode(rows[1:]))
        form.finish(partial, out)
        assert not partial.exists()
        assert [tuple(row.values()) for row in read(out)] == [row.values() for row in rows]


def test_a_parquet_file_of_many_messages_has_few_row_groups(tmp_path: Path) -> None:
    form = formats.Parquet()
    partial = tmp_path / "partial"
    with partial.open("wb") as file:
        file.write(form.start())
        for start in range(0, 70_000, 700):
            file.write(form.encode([scoring.Row(str(number)) for number in range(start, start + 700)]))
    form.finish(partial, tmp_path / "out.parquet")
    table = pyarrow.parquet.ParquetFile(tmp_path / "out.parquet")
    assert table.num_row_groups == 2
    assert table.read(["name"])["name"].to_pylist() == [str(number) for number in range(70_000)]


def test_an_image_that_the_detector_refuses_is_a_row(detector: MSP, pixels: np.ndarray, tmp_path: Path) -> None:
    class Touchy(nn.Module):
        """Overflows on black images."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) / x.amax((1, 2, 3), keepdim=False)[:, None]

    pixels[10] = 0
    np.savez(tmp_path / "scans.npz", test_images=pixels)
    touchy = MSP(Touchy(detector.model).eval(), batch_size=8).calibrate(torch.rand(50, 1, 8, 8))
    summary = scoring.score(touchy, tmp_path / "scans.npz", tmp_path / "scores.jsonl")
    rows = read(tmp_path / "scores.jsonl")
    assert summary.tally.failures == 1
    assert "NaN or infinite logits" in rows[10]["error"]
    assert summary.tally.first_failure.startswith("scans.npz#10: ")
    expected = touchy.judge(torch.from_numpy(pixels[11:12, None]) / 255).scores[0]
    assert rows[11]["score"] == pytest.approx(expected, rel=1e-5)


def test_memory_is_bounded_by_the_portion(detector: MSP, pixels: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "scans.npz", test_images=pixels)
    sizes: list[int] = []
    judge = detector.judge
    detector.judge = lambda x: sizes.append(len(x)) or judge(x)  # type: ignore[method-assign,func-returns-value]
    done: list[tuple[int, int]] = []
    scoring.score(detector, tmp_path / "scans.npz", tmp_path / "s.csv", progress=lambda *counts: done.append(counts))
    assert sizes == [8] * 6 + [2]
    assert done == [(8 * n, 50) for n in range(1, 7)] + [(50, 50)]


def test_wrong_size_is_an_error_before_anything_is_written(detector: MSP, tmp_path: Path) -> None:
    np.savez(tmp_path / "large.npz", test_images=np.zeros((5, 9, 9), np.uint8))
    with pytest.raises(InputError, match=r"\(1, 9, 9\).*\(1, 8, 8\)"):
        scoring.score(detector, tmp_path / "large.npz", tmp_path / "scores.csv")
    assert not (tmp_path / "scores.csv").exists()
    summary = scoring.score(detector, tmp_path / "large.npz", tmp_path / "scores.csv", size=8, restart=True)
    assert summary.tally.scored == 5


def test_one_image_of_another_size_is_a_row(detector: MSP, folder: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "a/010.png")
    summary = scoring.score(detector, folder, tmp_path / "scores.jsonl")
    assert summary.tally.failures == 4
    assert "9 x 9" in read(tmp_path / "scores.jsonl")[10]["error"]


@pytest.mark.parametrize(("mode", "size"), [("L", (9, 9)), ("RGB", (9, 9)), ("RGB", (8, 8))])
def test_an_odd_image_at_the_start_is_what_it_is_at_the_end(
    mode: str, size: tuple[int, int], detector: MSP, pixels: np.ndarray, tmp_path: Path
) -> None:
    names = [f"{number:02}.png" for number in range(50)]
    found = []
    for place in (0, 49):
        folder = tmp_path / str(place)
        folder.mkdir()
        for name, image in zip(names, pixels, strict=True):
            Image.fromarray(image).save(folder / name)
        Image.new(mode, size, 90 if mode == "L" else (90, 90, 90)).save(folder / names[place])
        scoring.score(detector, folder, tmp_path / f"{place}.jsonl")
        found.append(read(tmp_path / f"{place}.jsonl"))
    first, last = found
    assert [row["error"] is not None for row in first] == [size != (8, 8)] + [False] * 49
    assert (first[0]["error"], first[0]["score"]) == (last[49]["error"], last[49]["score"])
    assert [row["score"] for row in first[1:49]] == pytest.approx([row["score"] for row in last[1:49]])


def test_images_that_are_all_odd_are_still_refused(detector: MSP, tmp_path: Path) -> None:
    np.savez(tmp_path / "large.npz", test_images=np.zeros((150, 9, 9), np.uint8))
    with pytest.raises(InputError, match=r"\(1, 9, 9\).*\(1, 8, 8\)"):
        scoring.score(detector, tmp_path / "large.npz", tmp_path / "scores.csv")


def test_refusals_name_the_remedy(detector: MSP, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"suffix '\.txt'.*\.csv, \.jsonl"):
        scoring.score(detector, folder, tmp_path / "scores.txt")
    with pytest.raises(InputError, match="make it first"):
        scoring.score(detector, folder, tmp_path / "nowhere" / "scores.csv")
    with pytest.raises(NotFittedError, match="calibrate"):
        scoring.score(MSP(detector.model), folder, tmp_path / "scores.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        scoring.score(detector, tmp_path / "empty", tmp_path / "scores.csv")
    (tmp_path / "scores.csv").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        scoring.score(detector, folder, tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text() == "mine"
    scoring.score(detector, folder, tmp_path / "scores.csv", overwrite=True)
    assert len(read(tmp_path / "scores.csv")) == 50
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DependencyError, match=r"gradiometer\[parquet\]"):
        scoring.score(detector, folder, tmp_path / "scores.parquet")


@pytest.mark.parametrize("parts", [1, 3, 7, 50])
@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_the_parts_of_a_collection_are_the_whole(
    kind: str, parts: int, detector: MSP, folder: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    source = folder
    if kind == "archive":
        source = tmp_path / "scans.npz"
        np.savez(source, test_images=pixels)
    scoring.score(detector, source, tmp_path / "whole.jsonl")
    rows, sizes = [], []
    for part in range(1, parts + 1):
        out = tmp_path / f"{part}.jsonl"
        seen: list[tuple[int, int]] = []
        summary = scoring.score(
            detector, source, out, shard=(part, parts), progress=lambda *done, seen=seen: seen.append(done)
        )
        rows += read(out)
        sizes.append(summary.tally.rows)
        assert seen[-1] == (summary.tally.rows, summary.tally.rows)
    assert max(sizes) - min(sizes) <= 1
    whole = read(tmp_path / "whole.jsonl")
    assert [row["name"] for row in rows] == [row["name"] for row in whole]
    for found, wanted in zip(rows, whole, strict=True):
        assert found["error"] == wanted["error"]
        assert found["score"] == (None if wanted["score"] is None else pytest.approx(wanted["score"], rel=1e-5))


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (-1, 3), (1, 0)])
def test_a_part_that_there_is_not_is_refused(shard: tuple[int, int], detector: MSP, folder: Path) -> None:
    with pytest.raises(InputError, match=f"shard is {shard[0]} of {shard[1]}; give a part from 1"):
        scoring.score(detector, folder, folder.parent / "scores.csv", shard=shard)


def test_more_parts_than_rows_are_refused(detector: MSP, folder: Path) -> None:
    with pytest.raises(InputError, match="has 50 rows, which cannot be divided into 51 shards"):
        scoring.score(detector, folder, folder.parent / "scores.csv", shard=(1, 51))


def test_images_of_other_channels_are_brought_to_those_of_the_detector(
    detector: MSP, pixels: np.ndarray, tmp_path: Path
) -> None:
    for name, mode in (("grey", "L"), ("colour", "RGB")):
        (tmp_path / name).mkdir()
        for number, image in enumerate(pixels[:12]):
            Image.fromarray(image).convert(mode).save(tmp_path / name / f"{number:02}.png")
        scoring.score(detector, tmp_path / name, tmp_path / f"{name}.jsonl")
    grey, colour = (read(tmp_path / f"{name}.jsonl") for name in ("grey", "colour"))
    assert all(row["error"] is None for row in colour)
    assert [row["score"] for row in colour] == pytest.approx([row["score"] for row in grey], rel=1e-5)
