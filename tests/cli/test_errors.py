"""Bad input: one clear line that names the value and the remedy, the exit code, and nothing lost."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from gradiometer import Guard
from gradiometer.cli import main
from gradiometer.detectors import storage
from gradiometer.errors import ModelError
from gradiometer.models import stored
from tests.cli.conftest import Outcome, Run, Workshop


def refused(said: Outcome, *words: str) -> None:
    """One line on the error stream that holds the words, and exit code 1."""
    assert said.code == 1, said
    last = said.err.splitlines()[-1]
    assert last.startswith("gradiometer: error: ")
    for word in words:
        assert word in last
    assert "Traceback" not in said.err


def test_missing_artefact(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    said = run("score", "--detector", tmp_path / "no", "--images", workshop.photos, "--out", tmp_path / "s.csv")
    refused(said, f"there is no file {tmp_path / 'no'}")


def test_truncated_artefact(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(workshop.detector.read_bytes()[:-100])
    said = run("score", "--detector", broken, "--images", workshop.photos, "--out", tmp_path / "s.csv")
    refused(said, "truncated", str(broken))
    assert not (tmp_path / "s.csv.partial").exists()


def test_artefact_of_a_newer_schema(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    artefact = storage.read(workshop.detector)
    storage.write(tmp_path / "new.safetensors", artefact.header, artefact.tensors)
    data = (tmp_path / "new.safetensors").read_bytes()
    newer = data.replace(b'\\"schema\\": 1', b'\\"schema\\": 7')
    assert newer != data
    (tmp_path / "new.safetensors").write_bytes(newer)
    said = run("explain", "--detector", tmp_path / "new.safetensors", "--images", workshop.photos)
    refused(said, "schema 7", "upgrade")


def test_artefact_of_another_model(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    path = workshop.model / stored.WEIGHTS
    model = stored.read(path)
    with torch.no_grad():
        next(model.parameters()).add_(0.5)
    other = tmp_path / "other.safetensors"
    stored.write(other, model, stored.read_header(path))
    said = run(
        *("score", "--detector", workshop.detector, "--model", other),
        *("--images", workshop.photos, "--out", tmp_path / "s.csv"),
    )
    refused(said, "fitted on a model with other weights")


def test_artefact_that_python_saved_does_not_name_its_model(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    model = stored.read(workshop.model / stored.WEIGHTS).eval()
    Guard(model).fit(torch.rand(60, 1, 8, 8)).save(tmp_path / "mine.safetensors")
    words = ["explain", "--detector", tmp_path / "mine.safetensors", "--images", workshop.archive]
    refused(run(*words), "name it with --model")
    assert run(*words, "--model", workshop.model).code == 0


def test_a_model_that_is_not_where_the_artefact_notes_it(
    workshop: Workshop, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workshop.folder)
    fitted = tmp_path / "a.safetensors"
    assert run("fit", "--model", "model", "--known", "digits@0-40", "--detector", "msp", "--out", fitted).code == 0
    monkeypatch.chdir(tmp_path)
    words = ["calibrate", "--detector", fitted, "--held-out", "digits@50-80"]
    refused(run(*words), f"{fitted} notes model as its model", f"looked for from {tmp_path}", "with --model")
    assert run(*words, "--model", workshop.model).code == 0


def test_uncalibrated_detector(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    said = run("score", "--detector", workshop.fitted, "--images", workshop.photos, "--out", tmp_path / "s.csv")
    refused(said, "has no false-alarm rate yet", "gradiometer calibrate")


def test_calibration_on_images_of_the_fit(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    said = run(*("calibrate", "--detector", workshop.fitted, "--held-out", "digits@30-60"), *("--out", tmp_path / "g"))
    refused(said, "fitted")
    assert not (tmp_path / "g").exists()


def test_too_few_images_for_the_rate(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    said = run(
        *("calibrate", "--detector", workshop.fitted, "--held-out", "digits@50-80", "--limit", 30),
        *("--false-alarm-rate", 0.01, "--out", tmp_path / "g"),
    )
    refused(said, "99", "30")


def test_folder_without_images(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = run("score", "--detector", workshop.detector, "--images", tmp_path / "empty", "--out", tmp_path / "s.csv")
    refused(said, str(tmp_path / "empty"))


def test_folder_of_broken_images(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    for number in range(3):
        (tmp_path / "broken" / f"{number}.jpg").write_bytes(b"\xff\xd8 nothing")
    said = run("score", "--detector", workshop.detector, "--images", tmp_path / "broken", "--out", tmp_path / "s.csv")
    refused(said, "0.jpg")


def test_wrong_image_size(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "large.npz", test_images=np.zeros((9, 28, 28), np.uint8))
    words = ["--detector", workshop.detector, "--images", tmp_path / "large.npz"]
    refused(run("score", *words, "--out", tmp_path / "s.csv"), "(1, 28, 28)", "(1, 8, 8)")
    assert run("score", *words, "--out", tmp_path / "s.csv", "--size", 8, "--restart").code == 0
    said = run("fit", "--model", workshop.model, "--known", tmp_path / "large.npz", "--out", tmp_path / "g.safetensors")
    refused(said, "1 x 28 x 28", "1 x 8 x 8", "--size 8 --channels 1")


def test_the_size_of_the_fit_is_kept(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(0, 256, (120, 20, 20, 3), dtype=np.uint8)
    np.savez(tmp_path / "large.npz", train_images=large[:60], val_images=large[60:100], test_images=large[100:])
    guard = tmp_path / "g.safetensors"
    form = ("--size", 8, "--channels", 1)
    assert (
        run("fit", "--model", workshop.model, "--known", f"{tmp_path}/large.npz:train", *form, "--out", guard).code == 0
    )
    assert run("calibrate", "--detector", guard, "--held-out", f"{tmp_path}/large.npz:val").code == 0
    said = run("score", "--detector", guard, "--images", f"{tmp_path}/large.npz:test", "--out", tmp_path / "s.csv")
    assert said.code == 0, said.err
    assert "20 rows" in said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "--model", "resnet2000", "--known", "digits", "--out", "g"], ["unknown model 'resnet2000'"]),
        (["train", "--architecture", "resnet2000", "--known", "digits", "--out", "x"], ["resnet2000"]),
        (["train", "--architecture", "digits-cnn", "--known", "nothing-here", "--out", "x"], ["nothing-here"]),
        (["train", "--architecture", "digits-cnn", "--known", "digits@0-55", "--out", "x"], ["tens of percent"]),
        (["train", "--architecture", "digits-cnn", "--known", "digits", "--epochs", "0", "--out", "x"], ["epochs"]),
        (["plan", "--model", "torchvision:resnet18"], ["--shape 3 224 224"]),
        (["plan", "--model", "torchvision:resnet18", "--shape", "3", "0", "0"], ["(3, 0, 0)"]),
        (["fit", "--model", "m", "--known", "digits", "--out", "g", "--seed", "-1"], ["--seed is -1", "0 or more"]),
        (["benchmark", "ood", "--seed", "-1"], ["--seed is -1"]),
        (["benchmark", "ood", "--seeds", "0", "-2"], ["--seeds is -2"]),
        (["severity", "train", "--healthy", "h", "--out", "o", "--seed", str(2**63)], [f"--seed is {2**63}"]),
        (["benchmark", "ood"], ["--data-root", "GRADIOMETER_DATA_ROOT"]),
        (["demo", "--out", "nowhere/report.html"], ["nowhere", "make it first"]),
    ],
)
def test_values_that_cannot_be(
    arguments: list[str], words: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRADIOMETER_DATA_ROOT", raising=False)
    refused(run(*arguments), *words)


def test_options_that_need_the_workshop(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    score = ["score", "--detector", workshop.detector, "--out", out, "--images"]
    refused(run(*score, "digits@0-10"), "whole sources")
    refused(run(*score, workshop.photos, "--out", tmp_path / "s.txt"), ".csv, .jsonl")
    refused(run(*score, workshop.photos, "--device", "warp"), "'warp'")
    refused(run("explain", "--detector", workshop.detector, "--images", workshop.photos, "--top", 0), "top is 0")
    explain = ["explain", "--detector", workshop.detector, "--images", workshop.photos]
    refused(run(*explain, "--known", workshop.archive), "--known is for the page", "add --page")
    refused(run(*explain, "--by", "spot"), "--by is for the page", "add --page")
    fit = ["fit", "--model", workshop.model, "--known", "digits@0-40", "--out", tmp_path / "g"]
    refused(run(*fit, "--detector", "msp", "--challenges", workshop.archive), "leave --challenges out")
    refused(run(*fit, "--parameters", "nothing*"), "--parameters is for --detector purview", "this is guard")
    refused(run(*fit, "--beta", "0.5"), "--beta is for --detector gradcon", "this is guard")
    for more in (("--members", "five"), ("--step", "0.01"), ("--smoothing", "false"), ("--gradients",)):
        refused(run(*fit, "--detector", "msp", *more), f"{more[0]} is for --detector guard", "this is msp")
    refused(run(*fit, "--detector", "purview", "--parameters", "nothing*"), "nothing*")
    refused(run(*fit[:-1], tmp_path / "nowhere" / "g"), "make it first")
    train = ["train", "--architecture", "digits-cnn", "--out", tmp_path / "m", "--known"]
    refused(run(*train, workshop.archive), "no labels")


def test_debug_shows_the_traceback(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unknown model"):
        main(["fit", "--model", "nothing", "--known", "digits", "--out", str(tmp_path / "g"), "--debug"])


def test_a_finished_file_is_not_replaced_by_mistake(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    words = ["score", "--detector", workshop.detector, "--images", workshop.archive, "--out", tmp_path / "s.csv"]
    assert run(*words).code == 0
    refused(run(*words), "exists already")
    assert run(*words, "--overwrite").code == 0


def test_interruption_is_130_and_the_same_command_continues(
    workshop: Workshop, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["score", "--detector", workshop.detector, "--images", workshop.photos, "--out"]
    judge, calls = Guard.judge, iter(range(1, 99))

    def interrupted(self: Guard, x: object) -> object:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return judge(self, x)

    monkeypatch.setattr(Guard, "judge", interrupted)
    said = run(*words, tmp_path / "s.jsonl")
    assert said.code == 130
    assert "run the same command again to continue" in said.err
    assert len((tmp_path / "s.jsonl.partial").read_text().splitlines()) == 17
    said = run(*words, tmp_path / "s.jsonl")
    assert said.code == 0
    assert "17 rows were there from an earlier run" in said.out
    assert run(*words, tmp_path / "whole.jsonl").code == 0
    assert (tmp_path / "s.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_stopped_continues(
    kind: signal.Signals, workshop: Workshop, run: Run, tmp_path: Path
) -> None:
    """A real process, stopped from outside as soon as it has written something."""
    out = tmp_path / "s.jsonl"
    many = tmp_path / "many.npz"
    with np.load(workshop.archive) as arrays:
        np.savez(many, test_images=np.concatenate([arrays["test_images"]] * 20))
    words = ["score", "--detector", workshop.detector, "--images", many, "--out", out]
    process = subprocess.Popen(
        [sys.executable, "-m", "gradiometer", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    partial = tmp_path / "s.jsonl.partial"
    while process.poll() is None and not (partial.exists() and partial.read_bytes().count(b"\n") > 20):
        time.sleep(0.005)
    process.send_signal(kind)
    _, err = process.communicate()
    if process.returncode == 0:
        pytest.skip("the machine finished before it could be stopped")
    assert process.returncode == (130 if kind is signal.SIGINT else -kind)
    assert (kind is signal.SIGINT) == ("interrupted" in err)
    said = run(*words)
    assert said.code == 0, said.err
    assert "from an earlier run" in said.out
    names = [json.loads(line)["name"] for line in out.read_text().splitlines()]
    assert names == [f"many.npz#{number}" for number in range(800)]


def test_an_empty_text_is_refused_and_nothing_is_overwritten(run: Run, tmp_path: Path) -> None:
    detector = tmp_path / "a.safetensors"
    detector.write_bytes(b"untouched")
    said = run("calibrate", "--detector", detector, "--held-out", "digits", "--out", "")
    assert said.code == 1
    assert "--out is empty; give a value, or leave it out" in said.err
    assert detector.read_bytes() == b"untouched"


@pytest.mark.parametrize("text", ["#7", "~", "null", "1e3"])
def test_texts_that_yaml_would_read_as_something_else_are_kept(run: Run, text: str) -> None:
    said = run("calibrate", "--detector", "a", "--held-out", "b", "--out", text, "--print_config")
    assert said.code == 0
    assert yaml.safe_load(said.out)["out"] == text


@pytest.mark.parametrize(
    ("words", "out", "option"),
    [
        ("fit --model {model} --known digits", "{model}/model.safetensors", "--model"),
        ("fit --model net.py:make@{weights} --known digits", "{weights}", "--model"),
        ("fit --model {model} --known {archive}:test", "{archive}", "--known"),
        ("fit --model {model} --known digits --challenges digits {archive}", "{archive}", "--challenges"),
        ("calibrate --detector {fitted} --held-out {archive}", "{archive}", "--held-out"),
        ("score --detector {detector} --images {table} --overwrite", "{table}", "--images"),
        ("score --detector {detector} --images {archive} --overwrite", "{detector}", "--detector"),
        ("challenge --kind haze --level 3 --images scans --data-root {folder}", "{archive}", "--images"),
        ("dial --model {model} --known {archive} --held-out digits", "{archive}", "--known"),
        ("explain --detector {detector} --images {photos} --page", "{photos}/00.png", "--images"),
        ("explain --detector {detector} --images {photos} --known {archive} --page", "{archive}", "--known"),
        ("severity score --model {model} --images {table} --overwrite", "{table}", "--images"),
    ],
)
def test_what_is_read_is_not_replaced(workshop: Workshop, run: Run, words: str, out: str, option: str) -> None:
    names = {**vars(workshop), "weights": workshop.model / stored.WEIGHTS}
    path = Path(out.format(**names))
    before = path.read_bytes()
    flag = () if words.endswith("--page") else ("--out",)
    said = run(*words.format(**names).split(), *flag, path)
    refused(said, f"{path} would replace a file of {option} ", "write to another file")
    assert path.read_bytes() == before


def test_the_model_that_a_detector_notes_is_not_replaced(workshop: Workshop, run: Run) -> None:
    weights = workshop.model / stored.WEIGHTS
    before = weights.read_bytes()
    said = run("calibrate", "--detector", workshop.fitted, "--held-out", "digits@50-80", "--out", weights)
    refused(said, f"{weights} would replace a file of the model {workshop.model}")
    assert weights.read_bytes() == before


def test_files_beside_what_is_read_are_written_again(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    shutil.copytree(workshop.model, tmp_path / "model")
    words = ("fit", "--model", tmp_path / "model", "--known", "digits", "--limit", 100, "--detector", "msp")
    for _ in range(2):
        assert run(*words, "--out", tmp_path / "model" / "msp.safetensors").code == 0


@pytest.mark.parametrize("flag", ["--size", "--channels"])
@pytest.mark.parametrize(
    "words",
    [
        "fit --model resnet20-cifar10 --known digits --out g",
        "calibrate --detector g --held-out digits",
        "score --detector g --images digits --out s.csv",
        "severity probe --encoders e --train t --targets y --out p",
        "benchmark ood --data-root here",
    ],
)
def test_a_size_of_nothing_is_not_taken_for_none(run: Run, words: str, flag: str) -> None:
    refused(run(*words.split(), flag, 0), f"{flag} is 0; give 1 or more")


def test_a_text_that_is_too_long_for_a_path_is_none(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "there.safetensors"
    out.touch()
    refused(run("fit", "--model", "x" * 300, "--known", "digits", "--out", out), "x" * 300)


@pytest.mark.parametrize("shard", ["2", "2/", "two/8", "-1/8", "1.5/8"])
def test_a_shard_that_is_none(workshop: Workshop, run: Run, shard: str) -> None:
    words = ("score", "--detector", workshop.detector, "--images", workshop.photos, "--out", "s.csv")
    refused(run(*words, f"--shard={shard}"), f"--shard is {shard}; give PART/PARTS")


def test_an_interruption_of_the_first_moment_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
import sys
from gradiometer.__main__ import main

class Interrupted:
    def find_spec(self, name, *_):
        if name == "jsonargparse":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
sys.exit(main())
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (130, "", "gradiometer: error: interrupted\n")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gradiometer.cli.make_parser", interrupted)
    parsing = run("plan", "--model", "resnet20-cifar10")
    assert (parsing.code, parsing.err) == (130, "gradiometer: error: interrupted\n")


def test_the_package_is_the_command() -> None:
    words = [sys.executable, "-m", "gradiometer", "score"]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert "score.detector" in said.stderr


def test_messages_about_images_name_what_is_given_on_the_command_line(
    workshop: Workshop, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRADIOMETER_DATA_ROOT", raising=False)
    pixels = np.zeros((4, 8, 8), np.uint8)
    np.savez(tmp_path / "two.npz", train_images=pixels, test_images=pixels)
    fit = ("fit", "--model", workshop.model, "--out", tmp_path / "a.safetensors", "--known")
    refused(run(*fit, tmp_path / "two.npz"), "has the splits train, test; choose one with :train behind its name")
    score = ("score", "--detector", workshop.detector, "--images", tmp_path / "two.npz", "--out", tmp_path / "s.csv")
    refused(run(*score), "choose one with :train behind its name")
    refused(run(*fit, "SVHN", "--data-root", tmp_path), "choose one of train, test, extra, such as :train behind")
    refused(run(*fit, "SVHN"), "say which one with --data-root")


def test_images_that_a_model_of_ones_own_cannot_take(run: Run, tmp_path: Path) -> None:
    source = "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    (tmp_path / "net.py").write_text(source)
    np.savez(tmp_path / "large.npz", train_images=np.zeros((4, 9, 9), np.uint8))
    words = ("--model", f"{tmp_path / 'net.py'}:make")
    said = run("fit", *words, "--known", tmp_path / "large.npz", "--out", tmp_path / "a.safetensors")
    refused(said, "a Sequential", "(1, 1, 9, 9)", "size and channels that it was made for", "--size and --channels")
    refused(run("plan", *words, "--shape", 1, 9, 9), "a Sequential", "(3, 1, 9, 9)")
