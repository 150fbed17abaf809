"""The parts of the severity benchmark that pre-train encoders, on small data in the layout of the real one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from gradiometer.benchmarks import probes
from gradiometer.benchmarks.severity import SeveritySettings, contrastive, olives, run
from gradiometer.errors import InputError
from tests.data import miniatures


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of which a grade makes one corner noisier; most are healthy, as an auto-encoder needs."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, healthy, others in (("train", 100, 30), ("val", 20, 20), ("test", 20, 20)):
        grades = np.concatenate([np.zeros(healthy, int), 1 + np.arange(others) % 4])
        spread = 4 + 12 * grades[:, None, None, None]
        pixels = rng.normal(120, 4, (len(grades), 16, 16, 3))
        pixels[:, :8, :8] += rng.normal(0, 1, (len(grades), 8, 8, 3)) * spread
        arrays |= {f"{split}_images": pixels.clip(0, 255).astype(np.uint8), f"{split}_labels": grades[:, None]}
    np.savez(root / "retina_mnist.npz", **arrays)
    return root


@pytest.fixture(scope="module")
def settings(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> SeveritySettings:
    out = tmp_path_factory.mktemp("out")
    return SeveritySettings(
        photographs,
        out,
        parts=("contrastive",),
        contrasts=("local",),
        seeds=(0, 1),
        epochs=1,
        contrastive_epochs=1,
        draws=20,
    )


@pytest.fixture(scope="module")
def page(settings: SeveritySettings) -> str:
    return run(settings)


class TestContrastive:
    def test_every_method_is_measured_on_both_targets_and_compared(self, page: str, settings: SeveritySettings) -> None:
        found = probes.read(settings.out / contrastive.RECORDS)
        test = [record for record in found if record.data == "RetinaMNIST, test, pixels local"]
        figures = [record for record in test if record.kind == "figures"]
        assert {(record.encoder, record.target) for record in figures} == {
            (name, target) for name in contrastive.METHODS for target in contrastive.TARGETS
        }
        assert {record.seeds for record in found} == {(0, 1)}
        assert all(len(set(record.encoder_sha256)) == 2 for record in figures)
        assert {record.encoder for record in test if record.kind == "difference"} == {
            f"{first} - {second}"
            for first in ("severity labels", "severity labels + SimCLR")
            for second in ("SimCLR", "random weights")
        }
        assert "kappa" in next(record.figures for record in figures if record.target == "class")

    def test_a_difference_is_that_of_the_means(self, page: str, settings: SeveritySettings) -> None:
        found = {
            (record.encoder, record.target): record.figures["AUROC"].value
            for record in probes.read(settings.out / contrastive.RECORDS)
            if record.data == "RetinaMNIST, test, pixels local"
        }
        gap = found["severity labels - SimCLR", "class>=2"]
        assert gap == pytest.approx(found["severity labels", "class>=2"] - found["SimCLR", "class>=2"])

    def test_the_page_has_the_published_figures_beside_empty_cells(self, page: str) -> None:
        assert "RetinaMNIST, test, pixels local: AUROC in percent" in page
        assert "| SimCLR, published | 75.1 | 80.6 | 59.0 | 75.4 | 52.7 |" in page
        assert "| severity labels |  |  |  |  |  |" in page
        assert "Ours: not run, it needs the scans" in page

    def test_a_second_run_makes_nothing_again(self, page: str, settings: SeveritySettings) -> None:
        before = (settings.out / contrastive.RECORDS).read_bytes()
        assert run(settings) == page
        assert (settings.out / contrastive.RECORDS).read_bytes() == before


class TestOlives:
    def test_the_pipeline_fills_the_published_table(self, tmp_path: Path) -> None:
        miniatures.olives(tmp_path / "OLIVES")
        (tmp_path / "NORMAL").mkdir()
        rng = np.random.default_rng(0)
        for number in range(80):
            miniatures.scan(rng, np.zeros(5)).save(tmp_path / "NORMAL" / f"NORMAL-{number}-1.jpeg")
        asked = SeveritySettings(
            tmp_path,
            tmp_path / "out",
            parts=("olives",),
            seeds=(0,),
            epochs=1,
            olives=tmp_path / "OLIVES",
            healthy=tmp_path / "NORMAL",
            olives_size=24,
            olives_encoder="resnet8",
            olives_epochs=1,
            olives_bins=10,
            draws=20,
        )
        page = run(asked)
        found = probes.read(asked.out / olives.RECORDS)
        balanced = [record for record in found if record.data == "OLIVES, balanced test sets of split 1"]
        # The miniature has the balanced test set of one biomarker only; the others stay empty.
        assert {record.target for record in balanced} == {"IRF"}
        assert {record.encoder for record in balanced} == set(olives.METHODS)
        whole = [record for record in found if record.data == "OLIVES, test set of split 1"]
        assert {record.target for record in whole} == set(olives.BIOMARKERS)
        assert {record.heads for record in whole} == {"joint"}
        assert {record.shared_patients for record in found} == {("203",)}
        assert {record.encoder: record.pretraining_shared for record in whole} == {
            name: 0 if columns is None else 1 for name, columns in olives.METHODS.items()
        }
        row = next(line for line in page.splitlines() if line.startswith("| severity labels |"))
        assert row.count("–") == 1
        assert row.endswith("|  |  |  |  |")
        assert "Ours: split with 1 patient on both sides" in page

    def test_a_test_set_whose_scans_are_broken_does_not_vanish(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        miniatures.olives(tmp_path / "OLIVES")
        for patient in miniatures.TREX_TEST:
            for scan in (tmp_path / "OLIVES" / "OLIVES" / "TREX DME" / "GILA" / patient).rglob("*.tif"):
                scan.write_bytes(b"no scan")
        monkeypatch.setattr(olives, "_labelled", lambda bench, pool: pool)
        asked = SeveritySettings(
            tmp_path, tmp_path / "out", parts=("olives",), olives=tmp_path / "OLIVES", healthy=tmp_path, olives_size=24
        )
        with pytest.raises(InputError, match="none of the 12 images"):
            run(asked)

    def test_it_asks_for_the_scans(self, tmp_path: Path) -> None:
        asked = SeveritySettings(tmp_path, tmp_path / "out", parts=("olives",))
        with pytest.raises(InputError, match="needs the folder of OLIVES"):
            run(asked)
        with pytest.raises(InputError, match="no part 'olive'"):
            replace(asked, parts=("olive",))

    def test_published_figures_are_marked_as_not_verified(self) -> None:
        entries = olives.published()
        assert entries["verified"] is False
        assert all(len(row[figure]) == 5 for row in entries["rows"] for figure in ("accuracy", "F1"))
