"""The commands that print tables write the defaults of their settings down again, to start without loading them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from gradiometer.benchmarks import attacks, corruptions, mistakes, null, ood, suite
from gradiometer.benchmarks.loading import TableSettings
from gradiometer.challenges.attacks import ATTACKS
from gradiometer.cli.benchmark import tables
from gradiometer.cli.benchmark.suite import SuiteOptions

SAME: list[tuple[type[tables.TableOptions], type[TableSettings]]] = [
    (tables.OodOptions, ood.OodSettings),
    (tables.AttackOptions, attacks.AttackSettings),
    (tables.CorruptionOptions, corruptions.CorruptionSettings),
    (tables.MistakeOptions, mistakes.MistakeSettings),
    (tables.NullOptions, null.NullSettings),
    (SuiteOptions, suite.SuiteSettings),
]


@pytest.mark.parametrize(("options", "settings"), SAME)
def test_a_command_has_the_defaults_of_its_settings(
    options: type[tables.TableOptions], settings: type[TableSettings]
) -> None:
    typed, meant = asdict(options()), asdict(settings(data_root=Path("data")))
    assert Path(typed.pop("out")) == meant.pop("out")
    del typed["data_root"], meant["data_root"]
    assert typed == meant


def test_the_summary_counts_the_attacks() -> None:
    (command,) = (command for command in tables.COMMANDS if command.name == "attacks")
    assert command.summary.startswith("seven attacks")
    assert len(ATTACKS) == 7
