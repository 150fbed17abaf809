"""The help teaches, costs nothing, and does not lie: its examples parse and its settings are those of the library."""

from __future__ import annotations

import inspect
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any, get_args, get_type_hints

import pytest

from gradiometer import __version__
from gradiometer.anomaly import AnomalyRecipe, Constraint, GradCon
from gradiometer.anomaly.detector import Score
from gradiometer.benchmarks.attacks import AttackSettings
from gradiometer.benchmarks.corruptions import CorruptionSettings
from gradiometer.benchmarks.demo import DemoSettings
from gradiometer.benchmarks.gradcon.settings import GradConSettings
from gradiometer.benchmarks.mistakes import MistakeSettings
from gradiometer.benchmarks.null import NullSettings
from gradiometer.benchmarks.ood import OodSettings
from gradiometer.benchmarks.severity import SeveritySettings
from gradiometer.benchmarks.suite import SuiteSettings
from gradiometer.cli import COMMANDS, benchmark, demo, fit, serve, train, train_gradcon
from gradiometer.cli.command import Command, chosen, make_parser
from gradiometer.cli.severity import train as severity_train
from gradiometer.models import Recipe, architectures
from gradiometer.service import Limits
from tests.cli.conftest import Run


def leaves(commands: tuple[Command, ...] = COMMANDS, path: str = "") -> Iterator[tuple[str, Command]]:
    for command in commands:
        if command.children:
            yield from leaves(command.children, f"{path}{command.name} ")
        else:
            yield f"{path}{command.name}", command


ALL = dict(leaves())


def test_the_commands_are_those_of_the_design() -> None:
    assert list(ALL) == [
        *("demo", "train classifier", "train gradcon", "fit", "calibrate", "score", "serve", "explain"),
        *("severity train", "severity score", "severity label", "severity pretrain", "severity probe"),
        *("severity run", "severity report", "challenge", "plan"),
        *("dial", "benchmark ood", "benchmark attacks", "benchmark corruptions"),
        *("benchmark mistakes", "benchmark null", "benchmark all"),
        *("benchmark suite", "benchmark gradcon", "benchmark severity"),
    ]


def test_the_first_help_lists_every_command(run: Run) -> None:
    said = run("--help")
    assert said.code == 0
    for command in COMMANDS:
        assert f"    {command.name} " in said.out
    assert "examples:" in said.out


def test_the_version_is_that_of_the_library(run: Run) -> None:
    said = run("--version")
    assert (said.code, said.out) == (0, f"gradiometer {__version__}\n")


@pytest.mark.parametrize("name", ALL)
def test_every_help_has_a_purpose_and_examples(name: str, run: Run) -> None:
    said = run(*name.split(), "--help")
    assert said.code == 0
    assert said.out.startswith(f"usage: gradiometer {name} ")
    words = " ".join(said.out.split())
    assert " ".join(ALL[name].purpose.split()) in words
    assert said.out.count(f"\n  gradiometer {name}") >= 2
    for flag in fields(ALL[name].options or object()):
        assert f"--{flag.name.replace('_', '-')} " in said.out


@pytest.mark.parametrize("name", ALL)
def test_every_example_parses(name: str) -> None:
    text = ALL[name].examples.replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("gradiometer")]
    assert lines
    for line in lines:
        parsed = make_parser(COMMANDS).parse_args(shlex.split(line)[1:])
        assert chosen(COMMANDS, parsed)[0] is ALL[name]


@pytest.mark.parametrize(
    ("options", "settings", "except_for"),
    [
        (demo.Options, DemoSettings, {"out"}),
        (benchmark.tables.OodOptions, OodSettings, {"out", "data_root"}),
        (benchmark.tables.AttackOptions, AttackSettings, {"out", "data_root"}),
        (benchmark.tables.CorruptionOptions, CorruptionSettings, {"out", "data_root"}),
        (benchmark.tables.MistakeOptions, MistakeSettings, {"out", "data_root"}),
        (benchmark.suite.SuiteOptions, SuiteSettings, {"out", "data_root"}),
        (benchmark.tables.NullOptions, NullSettings, {"out", "data_root"}),
        (benchmark.gradcon.GradConOptions, GradConSettings, {"out", "data_root"}),
        (benchmark.severity.SeverityOptions, SeveritySettings, {"out", "data_root"}),
    ],
)
def test_settings_are_those_of_the_library(options: Any, settings: Any, except_for: set[str]) -> None:
    here = {entry.name: entry.default for entry in fields(options)}
    there = {entry.name: entry.default for entry in fields(settings)}
    assert here.keys() == there.keys()
    assert {name: value for name, value in here.items() if name not in except_for} == {
        name: value for name, value in there.items() if name not in except_for
    }
    assert all(str(here[name]) == str(there[name]) for name in except_for if there[name] not in (MISSING, None))


def test_the_limits_of_the_service_are_those_of_the_library() -> None:
    limits = vars(Limits()) | {"patience": 1000 * Limits().patience}
    assert {name: serve.Options.__dataclass_fields__[name].default for name in limits} == limits


def test_the_recipe_is_that_of_the_library() -> None:
    assert set(train.RECIPE) == {entry.name for entry in fields(Recipe)}
    assert all(entry.default is None for entry in fields(train.Options) if entry.name in train.RECIPE)


def test_the_help_of_train_names_every_architecture(run: Run) -> None:
    words = run("train", "classifier", "--help").out.replace(",", " ").split()
    assert set(architectures()) <= set(words)


def test_flags_right_after_train_are_those_of_the_classifier(run: Run) -> None:
    said = run("train", "--architecture", "digits-cnn", "--known", "nowhere", "--out", "x")
    assert said.code == 1
    assert "nowhere" in said.err
    listed = run("train", "--help")
    assert listed.code == 0
    assert "    gradcon " in listed.out


def test_the_settings_of_gradcon_are_those_of_the_library() -> None:
    given = {entry.name: entry.default for entry in fields(train_gradcon.Options)}
    detector = inspect.signature(GradCon).parameters
    expected = {entry.name: entry.default for entry in fields(AnomalyRecipe) if entry.name != "constraint"}
    expected |= {entry.name: entry.default for entry in fields(Constraint)} | {"layers": (Constraint().layers,)}
    expected |= {name: detector[name].default for name in ("score", "beta", "neighbours")}
    assert {name: given[name] for name in expected} == expected


def test_no_help_loads_a_heavy_library() -> None:
    code = """
import sys
from gradiometer.cli import main
names = "", "fit", "train", "train classifier", "train gradcon", "score", "benchmark ood", "benchmark gradcon"
for words in ([*name.split(), "--help"] for name in names):
    try:
        main(words)
    except SystemExit as end:
        assert not end.code
heavy = {"torch", "numpy", "sklearn", "scipy", "PIL", "pyarrow", "matplotlib", "pytorch_ood"}
print("loaded:", sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1] == "loaded: []", ended.stderr


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["paint"],
        ["score"],
        ["score", "--detector", "g", "--images", "p", "--out", "s.csv", "--speed", "9"],
        ["score", "--det", "g", "--images", "p", "--out", "s.csv"],
        ["calibrate", "--detector", "g", "--held-out", "p", "--false-alarm-rate", "often"],
        ["fit", "--model", "m", "--known", "k", "--out", "o", "--detector", "crystal-ball"],
        ["fit", "--config", "nowhere.yaml"],
        ["benchmark"],
    ],
)
def test_wrong_usage_is_exit_code_2(words: list[str], run: Run) -> None:
    said = run(*words)
    assert said.code == 2
    assert "error:" in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


@pytest.mark.parametrize("command", [fit, train_gradcon, severity_train], ids=lambda module: module.__name__)
def test_every_score_of_gradcon_can_be_chosen(command: Any) -> None:
    assert set(get_args(get_type_hints(command.Options)["score"])) == set(get_args(Score))
