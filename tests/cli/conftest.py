"""The whole path on the bundled digits, made once by the commands themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from gradiometer import data
from gradiometer.cli import main


@dataclass(frozen=True)
class Outcome:
    """Exit code and what was said."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call a command in this process, as where nobody has said how wide the terminal is."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    return call


@dataclass(frozen=True)
class Workshop:
    """What the commands made, and images to score."""

    folder: Path
    model: Path
    fitted: Path
    detector: Path
    photos: Path
    archive: Path
    table: Path


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Train, fit and calibrate on digits; the last fifth of them as a folder, an archive and a table to score."""
    folder = tmp_path_factory.mktemp("workshop")
    made = Workshop(
        folder,
        folder / "model",
        folder / "fitted.safetensors",
        folder / "guard.safetensors",
        folder / "photos",
        folder / "scans.npz",
        folder / "scans.parquet",
    )
    for command in (
        f"train --architecture digits-cnn --known digits@0-40 --test digits@40-50 --epochs 2 --out {made.model}",
        f"fit --model {made.model} --known digits@0-40 --batch-size 16 --out {made.fitted}",
        f"calibrate --detector {made.fitted} --held-out digits@50-80 --out {made.detector}",
    ):
        assert main(command.split()) == 0
    images = data.load("digits").images[-40:, 0].numpy()
    made.photos.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(made.photos / f"{number:02}.png")
    (made.photos / "07.png").write_bytes((made.photos / "07.png").read_bytes()[:50])
    np.savez(made.archive, test_images=images)
    encoded = [path.read_bytes() for path in sorted(made.photos.iterdir())]
    pyarrow.parquet.write_table(pa.table({"image": encoded}), made.table)
    return made
