"""From training to an explanation, by the commands alone, on real digits."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from gradiometer import Guard, data, detectors, models
from gradiometer.cli import COMMANDS
from gradiometer.cli import sources as cli_sources
from gradiometer.cli.command import Command, chosen, make_parser
from gradiometer.detectors import storage
from tests.cli.conftest import Run, Workshop


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def in_memory(workshop: Workshop) -> Guard:
    """The detector of the workshop, made in Python."""
    model = models.load(str(workshop.model))
    reading = cli_sources.Reading()
    detector = Guard(model, batch_size=16).fit(cli_sources.load("digits@0-40", reading))
    return detector.calibrate(cli_sources.load("digits@50-80", reading), 0.05)


def test_a_folder_in_a_fresh_process_gives_the_scores_of_python(
    workshop: Workshop, in_memory: Guard, tmp_path: Path
) -> None:
    out = tmp_path / "scores.jsonl"
    command = ["score", "--detector", str(workshop.detector), "--images", str(workshop.photos), "--out", str(out)]
    ended = subprocess.run(
        [sys.executable, "-m", "gradiometer", *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")},
    )
    assert ended.returncode == 0, ended.stderr
    found = rows(out)
    with pytest.warns(UserWarning, match="1 of 40"):
        readable = data.load(workshop.photos)
    verdict = in_memory.judge(readable)
    scored = [row for row in found if row["error"] is None]
    assert [row["score"] for row in scored] == verdict.scores.tolist()
    assert [row["trustworthy"] for row in scored] == verdict.trustworthy.tolist()
    assert [Path(str(row["name"])).name for row in found if row["error"] is not None] == ["07.png"]
    assert f"{out}: 40 rows" in ended.stdout
    assert "1 failures" in ended.stdout
    # Not a terminal: no bar, no colour.
    assert "\x1b" not in ended.stdout + ended.stderr
    assert "━" not in ended.stderr


@pytest.mark.parametrize("source", ["archive", "table"])
def test_archive_and_table_give_the_scores_of_the_folder(
    source: str, workshop: Workshop, in_memory: Guard, run: Run, tmp_path: Path
) -> None:
    path = getattr(workshop, source)
    for suffix in (".csv", ".parquet", ".jsonl"):
        said = run("score", "--detector", workshop.detector, "--images", path, "--out", tmp_path / f"s{suffix}")
        assert said.code == 0, said.err
    found = rows(tmp_path / "s.jsonl")
    assert [row["name"] for row in found] == [f"{path.name}#{number}" for number in range(40)]
    images = data.load(workshop.archive).images
    if source == "table":
        images = images[[number for number in range(40) if number != 7]]
    expected = in_memory.predict(images.float() / 255).tolist()
    assert [row["score"] for row in found if row["error"] is None] == expected


def test_train_writes_a_model_that_load_takes(workshop: Workshop) -> None:
    header = models.header(str(workshop.model))
    assert (header.architecture, header.channels, header.size, header.classes) == ("digits-cnn", 1, 8, 10)
    record = json.loads((workshop.model / "record.json").read_text())
    assert record["recipe"]["epochs"] == 2
    reading = cli_sources.Reading()
    assert record["images"] == {
        "train": len(cli_sources.load("digits@0-40", reading)),
        "test": len(cli_sources.load("digits@40-50", reading)),
    }


def test_train_again_continues_from_the_checkpoint(workshop: Workshop, run: Run) -> None:
    before = (workshop.model / "model.safetensors").read_bytes()
    words = ["train", "--architecture", "digits-cnn", "--known", "digits@0-40", "--test", "digits@40-50"]
    said = run(*words, "--epochs", 2, "--out", workshop.model)
    assert said.code == 0, said.err
    assert "epoch 1 of 2" not in said.err
    assert (workshop.model / "model.safetensors").read_bytes() == before
    said = run(*words, "--epochs", 3, "--out", workshop.model)
    assert said.code == 1
    assert "another epochs" in said.err


def test_train_holds_a_tenth_out_when_there_is_no_test_set(run: Run, tmp_path: Path) -> None:
    said = run("train", "--architecture", "digits-cnn", "--known", "digits@0-30", "--epochs", 1, "--out", tmp_path)
    assert said.code == 0, said.err
    counts = json.loads((tmp_path / "record.json").read_text())["images"]
    assert counts["test"] == pytest.approx(0.1 * sum(counts.values()), abs=5)


def test_the_artefact_notes_where_it_comes_from(workshop: Workshop) -> None:
    origin = storage.read(workshop.detector).header["origin"]
    assert origin["model"] == str(workshop.model)
    assert (origin["known"], origin["held_out"]) == ("digits@0-40", "digits@50-80")
    assert storage.read(workshop.fitted).header["origin"]["held_out"] == ""
    # Python reads it as any other.
    loaded = detectors.load(workshop.detector, models.load(str(workshop.model)))
    assert isinstance(loaded, Guard)
    assert loaded.calibration is not None
    assert (loaded.step, loaded.smoothing) == (0, True)


def test_fit_with_second_looks(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    words = ("fit", "--model", workshop.model, "--known", "digits@0-40", "--step", 0.01, "--smoothing", "false")
    assert run(*words, "--out", tmp_path / "more.safetensors").code == 0
    more = detectors.load(tmp_path / "more.safetensors", models.load(str(workshop.model)))
    assert isinstance(more, Guard)
    assert (more.step, more.smoothing) == (0.01, False)


def test_calibrate_in_place_and_at_another_rate(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(workshop.fitted.read_bytes())
    said = run("calibrate", "--detector", mine, "--held-out", "digits@50-80", "--false-alarm-rate", 0.2)
    assert said.code == 0, said.err
    header = storage.read(mine).header
    assert header["false_alarm_rate"] == 0.2
    assert header["origin"]["model"] == str(workshop.model)
    assert "predicted class" in said.out


@pytest.mark.parametrize(
    "kind",
    ["msp", "energy", "mahalanobis", "odin", "knn", "vim", "react", "squeezing", "gradnorm", "gradpca"],
)
def test_the_baselines_go_the_same_way(kind: str, workshop: Workshop, run: Run, tmp_path: Path) -> None:
    guard = tmp_path / "guard.safetensors"
    assert run("fit", "--detector", kind, "--model", workshop.model, "--known", "digits@0-40", "--out", guard).code == 0
    assert run("calibrate", "--detector", guard, "--held-out", "digits@50-80").code == 0
    said = run("score", "--detector", guard, "--images", workshop.archive, "--out", tmp_path / "s.jsonl")
    assert said.code == 0, said.err
    assert all(row["score"] is not None for row in rows(tmp_path / "s.jsonl"))


NORMALISED = """
from torch import nn

def net():
    layers = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    return nn.Sequential(*layers).eval()
"""


@pytest.mark.parametrize("kind", ["gaia-z", "gaia-a"])
def test_what_needs_normalisation_says_so(kind: str, workshop: Workshop, run: Run, tmp_path: Path) -> None:
    fit = ("fit", "--detector", kind, "--known", "digits@0-40", "--out", tmp_path / "gaia.safetensors")
    said = run(*fit, "--model", workshop.model)
    assert said.code == 1
    assert "no batch, instance or group normalisation module" in said.err
    assert "take another detector, such as GradNorm or GradPCA" in said.err
    (tmp_path / "net.py").write_text(NORMALISED)
    said = run(*fit, "--model", f"{tmp_path / 'net.py'}:net")
    assert said.code == 0, said.err
    form = {"gaia-z": "zero-deflation", "gaia-a": "channel-average"}[kind]
    assert storage.read(tmp_path / "gaia.safetensors").header["parameters"]["form"] == form


def test_challenges_train_a_decision_network(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 12, 12, 3), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=noise)
    np.savez(
        tmp_path / "black.npz", images=np.zeros((40, 8, 8), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None]
    )
    guard = tmp_path / "guard.safetensors"
    said = run(
        *("fit", "--model", workshop.model, "--known", "digits@0-40", "--out", guard),
        *("--challenges", tmp_path / "noise.npz", tmp_path / "black.npz", "--parameters", "fc*", "conv1.weight"),
    )
    assert said.code == 0, said.err
    assert "100 challenges" in said.err
    header = storage.read(guard).header
    assert header["origin"]["challenges"] == [str(tmp_path / "noise.npz"), str(tmp_path / "black.npz")]
    assert header["parameters"]["parameters"] == ["fc*", "conv1.weight"]
    assert header["parameters"]["layers"] == 10
    known_only = run("fit", "--model", workshop.model, "--known", "digits", "--out", guard, "--detector", "purview")
    assert known_only.code == 0, known_only.err
    assert storage.read(guard).header["parameters"]["layers"] == 0


def test_explain_names_the_readings_of_python(workshop: Workshop, in_memory: Guard, run: Run) -> None:
    said = run("explain", "--detector", workshop.detector, "--images", workshop.archive, "--limit", 40, "--top", 2)
    assert said.code == 0, said.err
    profile = in_memory.explain(data.load(workshop.archive))
    for row in range(40):
        (name, z), (second, _) = profile.ranked(row, 2)
        part = said.out.split(f"scans.npz#{row}: ")[1].split("scans.npz#")[0]
        assert name in part
        assert f"{z:+.1f}" in part
        assert second in part


def test_explain_takes_files(workshop: Workshop, run: Run) -> None:
    files = [workshop.photos / "00.png", workshop.photos / "01.png"]
    said = run("explain", "--detector", workshop.detector, "--images", *files, "--top", 1)
    assert said.code == 0, said.err
    assert [line.split(": ")[0] for line in said.out.splitlines() if ".png: " in line] == [str(file) for file in files]
    same = run("explain", "--detector", workshop.detector, "--images", workshop.archive, "--limit", 40, "--top", 1)
    assert said.out.split("00.png: ")[1].splitlines()[0] == same.out.split("scans.npz#0: ")[1].splitlines()[0]
    said = run("explain", "--detector", workshop.detector, "--images", workshop.photos / "07.png")
    assert said.code == 1
    assert "07.png: the image cannot be decoded" in said.err


def test_explain_without_calibration_says_so(workshop: Workshop, run: Run) -> None:
    said = run("explain", "--detector", workshop.fitted, "--images", workshop.archive, "--limit", 1)
    assert said.code == 0
    assert "not calibrated" in said.err
    assert "activation into" in said.out


def test_plan_lists_every_parameter(workshop: Workshop, run: Run) -> None:
    said = run("plan", "--model", workshop.model, "--batch-size", 2)
    assert said.code == 0, said.err
    for name, parameter in models.load(str(workshop.model)).named_parameters():
        line = next(line for line in said.out.splitlines() if f" {name} " in line)
        assert " x ".join(map(str, parameter.shape)) in line
    assert "ms an image" in said.out


def test_plan_of_a_foreign_model_needs_a_shape(run: Run, tmp_path: Path) -> None:
    source = (
        "from torch import nn\n\ndef make(width=3):\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, width))\n"
    )
    (tmp_path / "net.py").write_text(source)
    spec = f"{tmp_path / 'net.py'}:make"
    said = run("plan", "--model", spec)
    assert said.code == 1
    assert "add --shape" in said.err
    said = run("plan", "--model", spec, "--shape", 3, 2, 2, "--model-options", "{width: 5}")
    assert said.code == 0, said.err
    assert "5 x 12" in said.out


def test_a_model_of_code_and_weights_is_fitted(run: Run, tmp_path: Path) -> None:
    source = "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    (tmp_path / "net.py").write_text(source)
    torch.manual_seed(0)
    save_file(dict(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).state_dict()), tmp_path / "w.safetensors")
    spec = f"{tmp_path / 'net.py'}:make@{tmp_path / 'w.safetensors'}"
    said = run(
        *("fit", "--model", spec, "--known", "digits@0-20", "--detector", "energy", "--out", tmp_path / "a.safetensors")
    )
    assert said.code == 0, said.err


def test_settings_reach_every_detector_that_has_them_and_no_other(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    words = ("fit", "--model", workshop.model, "--known", "digits@0-20", "--out", out)
    assert run(*words, "--detector", "knn", "--neighbours", 5).code == 0
    assert storage.read(out).header["parameters"]["neighbours"] == 5
    assert run(*words, "--detector", "knn").code == 0
    assert storage.read(out).header["parameters"]["neighbours"] == 50
    for flag, value in (("--neighbours", 5), ("--seed", 3), ("--memory", "64MiB")):
        said = run(*words, "--detector", "energy", flag, value)
        assert said.code == 1
        assert f"{flag} is for --detector guard or purview and this is energy" in said.err


def test_options_of_the_model_before_do_not_stay_with_another_one(run: Run, tmp_path: Path) -> None:
    source = (
        "from torch import nn\n\n\ndef wide(outs):\n    return build(outs)\n\n\ndef fixed():\n    return build(10)\n"
    )
    source += "\n\ndef build(outs):\n    import torch\n\n    torch.manual_seed(0)\n"
    source += "    return nn.Sequential(nn.Flatten(), nn.Linear(64, outs))\n"
    (tmp_path / "net.py").write_text(source)
    out, net = tmp_path / "a.safetensors", tmp_path / "net.py"
    words = ("--known", "digits@0-20", "--detector", "energy", "--size", 8, "--channels", 1, "--out", out)
    said = run("fit", "--model", f"{net}:wide", "--model-options", "{outs: 10}", *words)
    assert said.code == 0, said.err
    said = run("calibrate", "--detector", out, "--held-out", "digits@50-80", "--model", f"{net}:fixed")
    assert said.code == 0, said.err
    said = run("score", "--detector", out, "--images", "digits", "--out", tmp_path / "s.csv", "--model", f"{net}:fixed")
    assert said.code == 0, said.err


def test_what_print_config_prints_config_reads(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    words = ["fit", "--model", str(workshop.model), "--known", "digits@0-40", "--out", str(tmp_path / "a.safetensors")]
    words += ["--detector", "purview", "--parameters", "fc*", "conv*", "--neighbours", "3", "--activations", "false"]
    printed = run(*words, "--print_config")
    assert printed.code == 0
    assert yaml.safe_load(printed.out)["parameters"] == ["fc*", "conv*"]
    (tmp_path / "fit.yaml").write_text(printed.out)
    again = run("fit", "--config", tmp_path / "fit.yaml", "--print_config")
    assert again.out == printed.out
    direct = chosen(COMMANDS, make_parser(COMMANDS).parse_args(words))
    by_file = chosen(COMMANDS, make_parser(COMMANDS).parse_args(["fit", "--config", str(tmp_path / "fit.yaml")]))
    assert direct == by_file
    said = run("fit", "--config", tmp_path / "fit.yaml", "--out", tmp_path / "b.safetensors")
    assert said.code == 0, said.err
    header = storage.read(tmp_path / "b.safetensors").header["parameters"]
    assert (header["neighbours"], header["activations"], header["parameters"]) == (3, False, ["fc*", "conv*"])


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.options], ids=lambda c: c.name)
def test_every_command_prints_its_config(command: Command, run: Run) -> None:
    entries = fields(command.options or object())
    required = [word for entry in entries if entry.default is MISSING for word in (f"--{entry.name}", "x")]
    said = run(command.name, *(word.replace("_", "-") for word in required), "--print_config")
    assert said.code == 0, said.err
    assert set(yaml.safe_load(said.out)) == {"debug", *(entry.name for entry in entries)}


def test_dial_compares_subsets_and_writes_the_curve(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "dial.json"
    words = ("--known", "digits@0-40", "--held-out", "digits@50-80", "--limit", 60, "--batch-size", 30)
    said = run("dial", "--model", workshop.model, *words, "--loss", 0.2, "--out", out)
    assert said.code == 0, said.err
    curve = json.loads(out.read_text(encoding="utf-8"))
    assert curve["settings"][-1]["parameters"] == ["*"]
    assert curve["control"]["tensors"] == 0
    assert curve["chosen"]["auroc"] >= curve["settings"][-1]["auroc"] - 0.2
    assert " ".join(curve["chosen"]["parameters"]) in said.out
    assert "gaussian_noise 3" in said.out
    advice = said.err.splitlines()[-1]
    chosen = curve["chosen"]["parameters"]
    assert shlex.split(advice)[5 : 6 + len(chosen)] == ["--parameters", *chosen]
    assert all(f" '{name}' " in advice for name in chosen if "*" in name)
    assert "*" in advice
    said = run("dial", "--model", workshop.model, *words, "--loss", 2)
    assert said.code == 1
    assert "between 0 and 1" in said.err
