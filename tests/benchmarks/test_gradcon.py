"""The benchmark of GradCon on small data sets that are made here, and once on real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import rankdata, spearmanr

from gradiometer.anomaly import AnomalyRecipe, GradCon, make_network, pixels_hash
from gradiometer.benchmarks import gradcon, records
from gradiometer.benchmarks.gradcon import measures, tables
from gradiometer.benchmarks.gradcon.cases import Classes, resized, trained, untrained
from gradiometer.benchmarks.gradcon.classes import OTHERS
from gradiometer.benchmarks.gradcon.controls import BEYOND, COLOUR, PLAIN, WITHOUT, MeanImage, beyond
from gradiometer.benchmarks.gradcon.references import Components, Neighbours
from gradiometer.benchmarks.gradcon.scoring import Scorer, scores_of
from gradiometer.benchmarks.gradcon.settings import GradConBench, GradConSettings
from gradiometer.benchmarks.metrics import Interval
from gradiometer.errors import InputError
from gradiometer.reports import figures

SCORES = ("reconstruction", "gradient", "combined", "fused", "whitened", "aligned without gradient", COLOUR, "spot")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three data sets: stripes of three directions, signs, and tiles with dents."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 180), ("test", 60)):
        labels = np.arange(count) % 3
        images = generator.integers(0, 80, (count, 28, 28)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            {0: image[::3], 1: image[:, ::3], 2: image}[int(label)][...] += 150
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez(folder / "cifar10.npz", **arrays, class_names=np.array(["rows", "columns", "bright"]))
    np.savez(folder / "signs.npz", **{name: a for name, a in arrays.items() if "images" in name})
    tiles = generator.integers(90, 110, (140, 64, 64)).astype(np.uint8)
    masks = np.zeros(tiles.shape, dtype=bool)
    masks[100:, 20:30, 30:40] = True
    tiles[masks] = 250
    np.savez(
        folder / "magnetic_tile.npz",
        test_images=tiles,
        test_labels=np.r_[np.zeros(100, int), np.ones(40, int)],
        test_masks=np.packbits(masks, axis=-1),
        class_names=np.array(["Free", "Dent"]),
    )
    return folder


@pytest.fixture(scope="module")
def settings(root: Path, tmp_path_factory: pytest.TempPathFactory) -> GradConSettings:
    return GradConSettings(
        root,
        tmp_path_factory.mktemp("gradcon"),
        parts=("cifar10", "condition", "tiles"),
        models=("cae+grad",),
        signs="signs",
        epochs=1,
        tile_size=16,
        scores=SCORES,
        draws=100,  # fewer may leave the figure itself outside
    )


@pytest.fixture(scope="module")
def page(settings: GradConSettings) -> str:
    with pytest.MonkeyPatch.context() as patch:
        # The recipe's batch of 64 is more than a class of this data set has.
        patch.setattr(GradConSettings, "recipe", lambda self, model, seed, values: _recipe(self, seed))
        text = gradcon.run(settings)
        seen: list[object] = []
        assert gradcon.run(settings, finished=seen.append) == text
        assert seen == []  # everything was there
    return text


def _recipe(settings: GradConSettings, seed: int) -> AnomalyRecipe:
    return AnomalyRecipe(epochs=settings.epochs, batch_size=16, seed=seed)


def test_every_cell_has_a_record_with_seed_hashes_and_interval(settings: GradConSettings, page: str) -> None:
    found = records.read(settings.records)
    scores = {*SCORES} - {"spot"}
    classes = [record for record in found if record.known.startswith("cifar10/")]
    assert {(record.known, record.detector) for record in classes} == {
        (f"cifar10/{name}", score) for name in ("rows", "columns", "bright") for score in scores
    }
    assert {record.challenge for record in found if record.known == "signs"} >= {"gaussian_noise.1", "gaussian_blur.5"}
    assert {record.model for record in found if record.known == "magnetic_tile"} == {
        "cae+grad", Components.name, Neighbours.name
    }  # fmt: skip
    for record in found:
        assert record.metrics.auroc.low <= record.metrics.auroc.value <= record.metrics.auroc.high
        assert record.data_sha256["normal"]
        assert record.settings["epochs"] == 1
        assert record.control == (record.detector in ("reconstruction", "aligned without gradient", COLOUR, "spot"))


def test_a_network_has_every_score_from_few_passes(root: Path, tmp_path: Path) -> None:
    case = Classes(root, "cifar10").case(0)
    recipe = AnomalyRecipe(network="vae", epochs=1, batch_size=16)
    found = trained(case.train, case.validation, recipe, tmp_path)
    scorer = Scorer.of(found, "vae+grad", case.train, 60, scores_of("vae+grad"))
    assert {*scorer.detectors} == {"fused", "aligned", "whitened", "subspace"}
    scores = scorer.scores(case.normal)
    assert {*scores.values} == {*scores.seconds} == {*scores_of("vae+grad")} - {BEYOND}
    images = case.normal.numpy()
    for name in ("latent", "combined", "whitened", "aligned", "subspace"):
        alone = GradCon.of(found, score=name).fit(case.train[:60].numpy())
        np.testing.assert_array_equal(scores.values[name], alone.predict(images).numpy())
    pixels, errors, both = (scores.values[name] for name in WITHOUT)
    aligned = scores.values["aligned"] - both
    # What the gradient adds to the control is its own whitened cosine, on another scale.
    assert np.corrcoef(aligned, scores.values["whitened"])[0, 1] > 0.999
    assert np.corrcoef(both, pixels)[0, 1] < 0.999 > np.corrcoef(both, errors)[0, 1]


def test_several_seeds_are_averaged_seed_by_seed(settings: GradConSettings, page: str) -> None:
    one = [record for record in records.read(settings.records) if record.known.startswith("cifar10/")]
    auroc = Interval(0.5, 0.4, 0.6)
    other = [replace(record, seed=1, metrics=replace(record.metrics, auroc=auroc)) for record in one]
    row = next(
        line for line in tables.to_page([*one, *other], []).splitlines() if line.startswith("| cae+grad, combined, 1 ")
    )
    mean = 100 * np.mean([record.metrics.auroc.value for record in one if record.detector == "combined"])
    low, high = sorted((mean, 50.0))
    assert row.startswith("| cae+grad, combined, 1 epochs, 2 seeds |")
    assert row.rstrip(" |").endswith(f"{(mean + 50) / 2:.1f} ({low:.1f}–{high:.1f})")


def test_the_tables_are_rendered_from_the_records(settings: GradConSettings, page: str) -> None:
    found = records.read(settings.records)
    assert page == (settings.out / "tables.md").read_text(encoding="utf-8")
    assert page == tables.to_page(found, measures.read(settings.out / "measures.jsonl"))
    one = next(record for record in found if record.known == "cifar10/rows" and record.detector == "combined")
    row = next(line for line in page.splitlines() if line.startswith("| cae+grad, combined, 1 epochs"))
    assert row.split("|")[2].split()[0] == f"{100 * one.metrics.auroc.value:.1f}"
    assert "| PCA reconstruction |" in page


def test_the_last_record_of_a_cell_counts(settings: GradConSettings, page: str) -> None:
    found = records.read(settings.records)
    before = [replace(r, metrics=replace(r.metrics, auroc=Interval(0.0, 0.0, 0.0))) for r in found]
    assert tables.to_page([*before, *found], measures.read(settings.out / "measures.jsonl")) == page
    assert tables.curves([*before, *found]) == tables.curves(found)


@pytest.mark.parametrize("change", [{"draws": 7}, {"tile_size": 24}, {"limit": 3}])
def test_records_of_other_settings_do_not_count_as_done(
    settings: GradConSettings, page: str, change: dict[str, int]
) -> None:
    key = ("cifar10/rows", OTHERS, "cae+grad", ["combined"], 0)
    assert GradConBench(settings).missing(*key) == []
    assert GradConBench(replace(settings, **change)).missing(*key) == ["combined"]


def test_the_figure_has_the_curves_of_the_records(settings: GradConSettings, page: str) -> None:
    found = records.read(settings.records)
    curves = tables.curves(found)
    assert list(curves["gaussian_blur"]) == ["reconstruction", "gradient"]
    one = next(r for r in found if r.challenge == "gaussian_blur.2" and r.detector == "gradient")
    assert curves["gaussian_blur"]["gradient"][1] == one.metrics.auroc.value
    assert len(curves["gaussian_noise"]["reconstruction"]) == 5
    svg = figures.levels(curves, prefix="x")
    assert f"gaussian_blur, gradient: {curves['gaussian_blur']['gradient'][0]:.2f}" in svg
    with pytest.raises(InputError, match="two scores"):
        figures.levels({"fog": {"reconstruction": [0.5]}}, prefix="x")


def test_the_published_averages_are_those_of_the_published_rows() -> None:
    averages = {
        ("cae", "reconstruction"): 0.564, ("cae+grad", "reconstruction"): 0.554, ("cae+grad", "gradient"): 0.661,
        ("vae", "reconstruction"): 0.526, ("vae", "latent"): 0.583, ("vae+grad", "reconstruction"): 0.528,
        ("vae+grad", "latent"): 0.550, ("vae+grad", "gradient"): 0.647,
    }  # fmt: skip
    rows = tables.published().rows
    assert {name: pytest.approx(np.mean(list(row.values())), abs=6e-4) for name, row in rows.items()} == averages


def test_a_bright_dent_is_found_in_place(settings: GradConSettings, page: str) -> None:
    found = {(m.subject, m.figure): m for m in measures.read(settings.out / "measures.jsonl")}
    assert found["PCA reconstruction", "pixel AUROC"].value > 0.95
    assert found["cae+grad, reconstruction", "pixel AUROC"].value > 0.9
    assert found["cae+grad, reconstruction", "PRO"].settings["regions"] == 40


def test_maps_of_tiles_need_no_score_of_the_network(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GradConSettings, "recipe", lambda self, model, seed, values: _recipe(self, seed))
    settings = GradConSettings(
        root, tmp_path, parts=("tiles",), models=("cae",), scores=("whitened pixels",), epochs=1, tile_size=16, draws=20
    )
    gradcon.run(settings)
    assert {record.detector for record in records.read(settings.records)} == {"whitened pixels"}
    assert "cae, reconstruction" in {measure.subject for measure in measures.read(tmp_path / "measures.jsonl")}


def test_a_class_is_divided_as_published(root: Path) -> None:
    classes = Classes(root, "cifar10", seed=1)
    case = classes.case(0)
    assert (len(case.train), len(case.validation)) == (54, 6)
    assert len(case.normal) == len(case.abnormal) == 20
    again, other = classes.case(0), Classes(root, "cifar10", seed=2).case(0)
    assert pixels_hash(again.train) == pixels_hash(case.train) != pixels_hash(other.train)
    # Rows are bright in every third line, and nothing else is.
    lines = case.normal[:, 0].float().mean(2)[:, ::3].mean(1) - case.normal[:, 0].float().mean((1, 2))
    assert (lines > 50).all()


def test_images_are_resized_by_lanczos_without_loss_of_a_fitting_one() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = Image.fromarray(images[1].permute(1, 2, 0).numpy()).resize((28, 28), Image.Resampling.LANCZOS)
    assert np.array_equal(resized(images)[1].permute(1, 2, 0).numpy(), np.asarray(expected))
    assert resized(images, 32) is images
    assert resized(images[:, :1], 28).shape == (2, 1, 28, 28)


def test_a_longer_training_continues_a_shorter_one(root: Path, tmp_path: Path) -> None:
    case = Classes(root, "cifar10").case(0)
    recipe = AnomalyRecipe(epochs=2, batch_size=16)
    whole = trained(case.train, case.validation, recipe, tmp_path / "whole")
    epochs: list[float] = []
    trained(case.train, case.validation, replace(recipe, epochs=1), tmp_path / "parts")
    parts = trained(
        case.train, case.validation, recipe, tmp_path / "parts", lambda figures: epochs.append(figures["epoch"])
    )
    assert epochs == [2]
    for one, other in zip(whole.reference.values(), parts.reference.values(), strict=True):
        assert torch.equal(one, other)


def test_an_untrained_network_is_scored_against_the_mean_gradient(root: Path, tmp_path: Path) -> None:
    case = Classes(root, "cifar10").case(0)
    found = untrained(case.train, case.validation, AnomalyRecipe(seed=3))
    network = make_network("cae", 1, 28, seed=3)
    weights = {name: weight for name, weight in network.named_parameters() if name in found.reference}
    images = case.train / 255
    # The mean of the gradients is the gradient of the mean loss.
    expected = torch.autograd.grad(F.mse_loss(network(images), images), list(weights.values()))
    assert [*weights] == [f"decoder.{layer}.weight" for layer in (0, 2, 4, 6)]
    for (name, weight), gradient in zip(weights.items(), expected, strict=True):
        assert torch.equal(dict(found.network.named_parameters())[name], weight)
        torch.testing.assert_close(found.reference[name], gradient, rtol=1e-4, atol=1e-9)

    settings = GradConSettings(
        root,
        tmp_path,
        parts=("cifar10",),
        models=("cae+untrained",),
        scores=("gradient", PLAIN, BEYOND),
        epochs=7,
        draws=20,
    )
    page = gradcon.run(settings)
    made = records.read(settings.records)
    assert {(r.detector, r.settings["epochs"], r.settings["best_epoch"], r.control) for r in made} == {
        ("gradient", 0, 0, False), (PLAIN, 0, 0, True), (BEYOND, 0, 0, False)
    }  # fmt: skip
    assert "| cae+untrained, gradient, 0 epochs |" in page
    assert all(-1 <= r.settings["rank_correlation"] <= 1 for r in made if r.detector == BEYOND)
    assert not (tmp_path / "networks").exists()


def test_the_control_of_the_cosine_is_that_of_pixels_with_the_mean_image() -> None:
    generator = np.random.default_rng(0)
    known, seen = (generator.integers(0, 256, (count, 3, 5, 4)).astype(np.uint8) for count in (6, 3))
    control = MeanImage().fit(known, 2)
    grey = torch.full((1, 3, 5, 4), 0.5)
    scores = control.score(control.measure(torch.cat([torch.from_numpy(seen) / 255, grey])).numpy())
    mean = (known / 255 - 0.5).mean(0).ravel()
    images = (seen / 255 - 0.5).reshape(3, -1)
    expected = -images @ mean / np.linalg.norm(images, axis=1) / np.linalg.norm(mean)
    np.testing.assert_allclose(scores, [*expected, 0.0], atol=1e-6)

    colours = MeanImage(colour=True).fit(known, 2)
    first, one = ((pixels / 255 - 0.5).mean((-2, -1)) for pixels in (known.mean(0), seen[0]))
    found = colours.score(colours.measure(torch.from_numpy(seen) / 255).numpy())[0]
    np.testing.assert_allclose(found, -one @ first / np.linalg.norm(one) / np.linalg.norm(first), atol=1e-6)


def test_what_is_left_of_a_score_owes_nothing_to_its_control() -> None:
    control, other = np.random.default_rng(0).normal(size=(2, 500))
    scores = 3 * control + other
    left = beyond(scores, control)
    assert abs(spearmanr(left, control).statistic) < 0.05 < 0.2 < spearmanr(left, other).statistic
    np.testing.assert_allclose(beyond(np.exp(control), control), 0, atol=1e-9)
    # A control that says nothing takes nothing away.
    np.testing.assert_array_equal(beyond(scores, np.ones(500)), rankdata(scores) - 250.5)


def test_rows_are_held_against_the_published_cosine_class_by_class(settings: GradConSettings, page: str) -> None:
    one = next(r for r in records.read(settings.records) if r.detector == "gradient" and r.challenge == OTHERS)
    theirs = tables.published().rows["cae+grad", "gradient"]
    made = [
        replace(one, known=f"cifar10/{name}", metrics=replace(one.metrics, auroc=Interval(auroc + 0.01, 0.0, 1.0)))
        for name, auroc in theirs.items()
    ]
    assert "how near" not in page  # three classes are not the published ten
    lines = tables.to_page(made, []).partition("how near")[2].splitlines()
    row = next(line for line in lines if line.startswith("| cae+grad, gradient, 1 epochs |"))
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert cells[:2] == ["1.0", "1.00"]
    assert cells[4] == "-"
    left = [replace(r, detector=BEYOND, settings={**r.settings, "rank_correlation": 0.25}) for r in made]
    assert "| 0.25 |" in tables.to_page([*made, *left], []).partition("how near")[2]
    assert float(cells[2]) > 1 > float(cells[3])


def test_references_leave_nothing_of_what_they_know() -> None:
    known = np.random.default_rng(0).random((8, 1, 4, 4))
    np.testing.assert_allclose(Components(50).fit(known).maps(known), 0, atol=1e-12)
    np.testing.assert_allclose(Neighbours(1).fit(known).maps(known), 0, atol=1e-12)
    assert Components(2).fit(known).maps(known + 1).shape == (8, 4, 4)


def test_parts_and_models_that_do_not_exist_are_refused(root: Path) -> None:
    with pytest.raises(InputError, match="no part 'moon'"):
        GradConSettings(root, parts=("moon",))
    with pytest.raises(InputError, match="no model 'gan'"):
        GradConSettings(root, models=("gan",))


def test_costs_are_measured(root: Path, tmp_path: Path) -> None:
    gradcon.run(GradConSettings(root, tmp_path, parts=("cost",), limit=60))
    found = {(m.subject, m.figure): m for m in measures.read(tmp_path / "measures.jsonl")}
    assert found["cae", "parameters"].value == 232_771
    assert found["scores, batched against one by one", "largest difference"].value < 1e-6
    assert found["cae+grad", "training, an image and epoch"].value > 0


def test_real_digits_that_are_no_ones_stand_out(data_root: Path, tmp_path: Path) -> None:
    settings = GradConSettings(
        data_root, tmp_path, parts=("mnist",), models=("cae+grad",), labels=(1,), epochs=15, draws=10, limit=400
    )
    gradcon.run(settings)
    found = {record.detector: record.metrics.auroc.value for record in records.read(settings.records)}
    assert found["reconstruction"] > 0.85
    assert found["fused"] > 0.85
