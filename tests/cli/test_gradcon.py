"""GradCon by the commands alone, on real digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from gradiometer import data, models
from gradiometer.anomaly import GradCon
from gradiometer.cli import main
from gradiometer.detectors import storage
from tests.cli.conftest import Run

FIT = ("fit", "--detector", "gradcon", "--model")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of small zeros to fours, by the command."""
    folder = tmp_path_factory.mktemp("gradcon")
    words = f"train gradcon --known digits@0-50 --epochs 3 --batch-size 32 --out {folder / 'run'}"
    assert main(words.split()) == 0
    return folder / "run"


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_one_file_is_a_fitted_and_calibrated_detector(trained: Path) -> None:
    artefact = storage.read(trained / "gradcon.safetensors")
    about = artefact.header["about"]
    assert about["network"] == {"kind": "cae", "channels": 1, "size": [8, 8]}
    assert about["training"]["recipe"]["constraint"]["alpha"] == 0.03
    assert artefact.header["parameters"]["beta"] == 0.12
    assert artefact.header["false_alarm_rate"] == 0.05
    record = json.loads((trained / "record.json").read_text())
    assert record["images"] == {"train": 720, "validation": 90}
    assert [figures["epoch"] for figures in record["epochs"]] == [1, 2, 3]


def test_training_goes_on_where_it_was(trained: Path, run: Run, tmp_path: Path) -> None:
    before = (trained / "gradcon.safetensors").read_bytes()
    said = run("train", "gradcon", "--known", "digits@0-50", "--epochs", 3, "--batch-size", 32, "--out", trained)
    assert said.code == 0
    assert "epoch 1" not in said.err
    assert (trained / "gradcon.safetensors").read_bytes() == before
    other = run("train", "gradcon", "--known", "digits@0-50", "--alpha", 0.1, "--batch-size", 32, "--out", trained)
    assert other.code == 1
    assert "another constraint" in other.err


def test_curves_are_written_for_tensorboard(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    words = "train gradcon --known digits@0-10 --epochs 1 --batch-size 32 --score aligned --false-alarm-rate 0.1"
    said = run(*words.split(), "--out", tmp_path / "run", "--tensorboard", tmp_path / "curves")
    assert said.code == 0, said.err
    assert [path.name.split(".")[0] for path in (tmp_path / "curves").iterdir()] == ["events"]
    assert storage.read(tmp_path / "run" / "gradcon.safetensors").header["parameters"]["score"] == "aligned"


def test_a_folder_is_scored_with_a_broken_file_in_it(trained: Path, run: Run, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, image in enumerate(data.load("digits").images[-12:, 0].numpy()):
        Image.fromarray(image).save(photos / f"{number:02}.png")
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(photos / "white.png")
    (photos / "03.png").write_bytes(b"no image")
    out = tmp_path / "scores.jsonl"
    said = run("score", "--detector", trained / "gradcon.safetensors", "--images", photos, "--out", out)
    assert said.code == 0, said.err
    found = {Path(str(row["name"])).name: row for row in rows(out)}
    assert found["03.png"]["error"] is not None
    assert found["white.png"]["trustworthy"] is False
    assert found["white.png"]["prediction"] is None
    assert "reconstruction loss" in str(found["white.png"]["reason"])
    with pytest.warns(UserWarning, match="1 of 13"):
        readable = data.load(photos)
    expected = GradCon.load(trained / "gradcon.safetensors").predict(readable).tolist()
    assert [row["score"] for row in found.values() if row["error"] is None] == expected


def test_it_is_fitted_calibrated_and_explained_like_any_detector(trained: Path, run: Run, tmp_path: Path) -> None:
    fitted = tmp_path / "fused.safetensors"
    said = run(*FIT, trained, "--known", "digits@0-50", "--score", "fused", "--out", fitted)
    assert said.code == 0, said.err
    assert run("calibrate", "--detector", fitted, "--held-out", "digits@50-80").code == 0
    said = run("explain", "--detector", fitted, "--images", "digits@80-100", "--limit", 2)
    assert said.code == 0
    assert "trustworthy (p = " in said.out
    assert "decoder." in said.out
    assert "class" not in said.out
    refused = run(*FIT, trained, "--known", "digits", "--challenges", "digits", "--out", fitted)
    assert refused.code == 1
    assert "learns nothing from challenges" in refused.err


def test_too_few_images_for_the_rate_are_said_and_not_hidden(run: Run, tmp_path: Path) -> None:
    words = ("train", "gradcon", "--known", "digits", "--limit", 100, "--epochs", 1, "--out", tmp_path / "few")
    said = run(*words)
    assert said.code == 0, said.err
    assert "too few images for a false-alarm rate of 0.05" in said.err
    refused = run(*words[:5], 10, *words[6:-1], tmp_path / "fewer")
    assert refused.code == 1
    assert "less than one batch" in refused.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--known digits@0-50 --held-out digits@90-100 --limit 18", "needs at least 19 held-out images, there are 18"),
        ("--known digits@0-50 --held-out digits@0-10", "held-out images (the first is row 0) were also fitted on"),
        ("--known digits --limit 45 --score fused --batch-size 16", "fused keeps 9 for its p-values"),
        (
            "--known digits --limit 45 --score density --neighbours 36 --batch-size 16",
            "36 neighbours among 36 training",
        ),
    ],
)
def test_images_that_are_too_few_or_seen_before_are_noticed_before_training(
    words: str, message: str, run: Run, tmp_path: Path
) -> None:
    said = run("train", "gradcon", *words.split(), "--epochs", 1, "--out", tmp_path / "run")
    assert said.code == 1
    assert message in " ".join(said.err.split())
    assert not (tmp_path / "run").exists()


def test_a_score_that_the_network_does_not_have_is_noticed_before_training(run: Run, tmp_path: Path) -> None:
    said = run("train", "gradcon", "--known", "digits", "--score", "latent", "--out", tmp_path / "run")
    assert said.code == 1
    assert "only a variational auto-encoder has a latent loss" in said.err
    assert not (tmp_path / "run").exists()


def test_images_of_mixed_sizes_are_refused(run: Run, tmp_path: Path) -> None:
    for side in (8, 9):
        for number in range(3):
            Image.fromarray(np.zeros((side, side), np.uint8)).save(tmp_path / f"{side}-{number}.png")
    said = run("train", "gradcon", "--known", tmp_path, "--out", tmp_path / "run")
    assert said.code == 1
    assert "size" in said.err


def test_suspicious_images_get_a_page(trained: Path, run: Run, tmp_path: Path) -> None:
    words = ("explain", "--detector", trained / "gradcon.safetensors", "--images", "digits@80-100", "--limit", 40)
    said = run(*words, "--known", "digits@50-80", "--page", tmp_path / "page.html")
    assert said.code == 0, said.err
    assert "least normal of 40 images" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "the 24 least normal of 40 images; 40 of 358 looked at" in said.out
    assert "40 of 358 images were looked at" in (tmp_path / "page.html").read_text(encoding="utf-8")
    refused = run(*words, "--page", tmp_path / "page.html")
    assert refused.code == 1
    assert "--known" in refused.err


def test_a_page_looks_at_all_images_and_shows_as_many_as_asked_for(trained: Path, run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ("explain", "--detector", trained / "gradcon.safetensors", "--images", "digits@80-100", "--page", page)
    said = run(*words, "--known", "digits@50-80", "--top", 30)
    assert said.code == 0, said.err
    assert "the 30 least normal of 358 images" in said.out
    assert "looked at" not in said.out
    text = page.read_text(encoding="utf-8")
    assert text.count('class="three"') == 30
    assert "The 30 least normal of 358 images" in text
    assert "looked at" not in text


def test_a_page_of_a_detector_without_a_rate_names_the_command(trained: Path, run: Run, tmp_path: Path) -> None:
    fitted = tmp_path / "fitted.safetensors"
    words = ("fit", "--detector", "gradcon", "--model", trained, "--known", "digits@0-50", "--out", fitted)
    assert run(*words).code == 0
    said = run(
        *("explain", "--detector", fitted, "--images", "digits@80-100", "--known", "digits@50-80"),
        *("--page", tmp_path / "page.html"),
    )
    assert said.code == 1
    assert f"run: gradiometer calibrate --detector {fitted}" in said.err


def test_a_classifier_is_asked_for_where_a_detector_needs_one(trained: Path, run: Run, tmp_path: Path) -> None:
    for model in (trained, trained / "gradcon.safetensors"):
        said = run("fit", "--model", model, "--known", "digits@0-50", "--detector", "guard", "--out", tmp_path / "g")
        assert said.code == 1
        assert "gradcon.safetensors holds no classifier but a GradCon" in said.err
        assert "gradiometer fit --detector gradcon" in said.err


def test_what_a_file_says_of_itself_is_not_given_again(trained: Path, run: Run, tmp_path: Path) -> None:
    words = (*FIT, trained, "--known", "digits@0-50", "--out", tmp_path / "x.safetensors")
    for flag, value in (("--parameters", "decoder.6.weight"), ("--model-options", "{channels: 1}")):
        said = run(*words, flag, value)
        assert said.code == 1
        assert "is for an auto-encoder of yours" in said.err.replace("\n", " ")


def test_an_auto_encoder_of_code_and_weights_is_fitted(run: Run, tmp_path: Path) -> None:
    source = (
        "from torch import nn\n\n\ndef make():\n    net = nn.Sequential()\n"
        "    net.add_module('encoder', nn.Conv2d(1, 4, 3, padding=1))\n"
        "    net.add_module('decoder', nn.Sequential(nn.ConvTranspose2d(4, 1, 3, padding=1)))\n    return net\n"
    )
    (tmp_path / "net.py").write_text(source)
    model = models.load(f"{tmp_path / 'net.py'}:make")
    save_file(dict(model.state_dict()), tmp_path / "w.safetensors")
    words = ("--known", "digits@0-20", "--detector", "gradcon", "--score", "gradient")
    spec, out = f"{tmp_path / 'net.py'}:make@{tmp_path / 'w.safetensors'}", tmp_path / "a.safetensors"
    said = run("fit", "--model", spec, *words, "--out", out)
    assert said.code == 0, said.err
    assert storage.read(out).header["origin"]["model"] == spec
