"""What a command is: a frozen dataclass whose fields are the flags and the keys of the YAML file, and a function."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from gradiometer import __version__
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import InputError
from gradiometer.seeding import SEEDS


@dataclass(frozen=True)
class Command:
    """One command, or several under one name.

    Attributes:
        name: What is typed.
        summary: One line for the list of commands.
        purpose: One paragraph for its help.
        examples: Command lines, each with a comment above it.
        options: The dataclass of its settings.
        run: Does it.
        interrupted: What to tell somebody who interrupts it.
        children: The commands below this one, which then only groups them.
        default: The child that is meant when flags follow at once.
    """

    name: str
    summary: str
    purpose: str
    examples: str = ""
    options: type[Any] | None = None
    run: Callable[[Any, Terminal], None] = lambda options, terminal: None
    interrupted: str = ""
    children: tuple[Command, ...] = ()
    default: str = ""


def completed(commands: Sequence[Command], words: Sequence[str]) -> list[str]:
    """The words that were typed, with the child that is meant when a command with a default one has flags at once.

    Args:
        commands: All commands.
        words: What was typed after the name of the program.

    Example:
        >>> child = Command("one", "", "")
        >>> completed([Command("do", "", "", children=(child,), default="one")], ["do", "--fast"])
        ['do', 'one', '--fast']
    """
    defaults = {command.name: command.default for command in commands if command.default}
    if len(words) > 1 and words[0] in defaults and words[1].startswith("-") and words[1] not in ("-h", "--help"):
        return [words[0], defaults[words[0]], *words[1:]]
    return list(words)


def option(
    text: str, default: Any = MISSING, *, group: str = "", in_place: bool = False, least: int | None = None
) -> Any:
    """A field of the settings of a command.

    Args:
        text: What it means, for the help.
        default: Its default; required without one.
        group: Title of the group of flags that it stands in.
        in_place: Whether it names a file that the command may replace by what it writes.
        least: The smallest number that it may be.

    Returns:
        The field.
    """
    return field(default=default, metadata={"help": text, "group": group, "in_place": in_place, "least": least})


def flag_of(entry: Field[Any]) -> str:
    """What is typed for a field of the settings of a command."""
    return f"--{entry.name.replace('_', '-')}"


class _HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves the line breaks of purpose and examples alone."""


def make_parser(commands: Sequence[Command]) -> ArgumentParser:
    """The parser of all commands."""
    parser = _parser(
        "Know when not to trust a network. Gradiometer reads how far a trained network would have to change for one "
        "input, layer by layer, from one backward pass. An input that asks for an unusual change is flagged, at a "
        "false-alarm rate that you choose.",
        """
        # see it work on real handwritten digits, in two minutes
        gradiometer demo

        # your own network: fit on known images, choose the false-alarm rate on others, score new ones
        gradiometer fit --model runs/mine --known photos.npz:train --out guard.safetensors
        gradiometer calibrate --detector guard.safetensors --held-out photos.npz:val --false-alarm-rate 0.05
        gradiometer score --detector guard.safetensors --images new/ --out scores.parquet
        """,
        prog="gradiometer",
    )
    parser.add_argument(
        "--version", action="version", version=f"gradiometer {__version__}", help="Show the version and exit."
    )
    _add(parser, commands)
    return parser


def chosen(commands: Sequence[Command], parsed: Namespace) -> tuple[Command, Any, bool]:
    """The command that was typed, its settings, and whether to show tracebacks."""
    command = next(command for command in commands if command.name == parsed["command"])
    values = parsed[command.name]
    if command.children:
        return chosen(command.children, values)
    if command.options is None:
        return command, None, bool(values["debug"])
    given = {entry.name: values[entry.name] for entry in fields(command.options)}
    frozen = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return command, command.options(**frozen), bool(values["debug"])


def check_values(options: Any) -> None:
    """Refuse texts of nothing, such as a variable of the shell that is not set leaves, and numbers out of range.

    A zero where a number may be left out would be taken for one that was.

    Args:
        options: Settings of a command, or None.

    Raises:
        InputError: If a text is empty, a number is too small, or a seed is one of no generator.
    """
    for entry in () if options is None else fields(options):
        value, least = getattr(options, entry.name), entry.metadata["least"]
        several = value if isinstance(value, tuple) else (value,)
        if "" in several:
            raise InputError(f"{flag_of(entry)} is empty; give a value, or leave it out")
        if least is not None and value is not None and value < least:
            raise InputError(f"{flag_of(entry)} is {value}; give {least} or more, or leave it out")
        for seed in several if entry.name in ("seed", "seeds") else ():
            if seed is not None and not 0 <= seed < SEEDS:
                raise InputError(f"{flag_of(entry)} is {seed}; give a whole number of 0 or more, below 2^63")


def _add(parser: ArgumentParser, commands: Sequence[Command], path: str = "gradiometer") -> None:
    below = parser.add_subcommands(dest="command", title="commands", metavar="COMMAND", help="")
    for command in commands:
        name = f"{path} {command.name}"
        child = _parser(command.purpose, command.examples, usage=_usage(name, command))
        below.add_subcommand(command.name, child, help=command.summary)
        if command.children:
            _add(child, command.children, name)
        else:
            _add_options(child, command)


def _usage(name: str, command: Command) -> str:
    """What must be typed, and no more."""
    if command.options is None:
        return f"{name} COMMAND ..."
    required = [entry.name for entry in fields(command.options) if entry.default is MISSING]
    return " ".join([name, *(f"--{entry.replace('_', '-')} {entry.upper()}" for entry in required), "[options]"])


def _parser(purpose: str, examples: str, **settings: Any) -> ArgumentParser:
    lines = textwrap.indent(textwrap.dedent(examples).strip(), "  ")
    return ArgumentParser(
        description=textwrap.fill(" ".join(purpose.split()), 100),
        epilog=f"examples:\n{lines}" if lines else None,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
        **settings,
    )


def _add_options(parser: ArgumentParser, command: Command) -> None:
    parser.add_argument("--config", action="config", help="YAML file with settings; flags after it win")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if command.options is None:
        return
    kinds = get_type_hints(command.options)
    groups: dict[str, Any] = {"": parser}
    # Those without a group first: they are what the command is about.
    for entry in sorted(fields(command.options), key=lambda entry: bool(entry.metadata["group"])):
        title = entry.metadata["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        groups[title].add_argument(flag_of(entry), help=entry.metadata["help"], **_settings(entry, kinds[entry.name]))


def _settings(entry: Any, kind: Any) -> dict[str, Any]:
    """How a field is written on the command line."""
    settings: dict[str, Any] = {"required": True} if entry.default is MISSING else {"default": entry.default}
    if kind is bool and entry.default is False:
        return {"action": "store_true"}
    if get_origin(kind) is tuple:
        settings = {name: list(value) if name == "default" else value for name, value in settings.items()}
        return {"type": get_args(kind)[0], "nargs": "+", **settings}
    if kind == str | None:
        kind = str  # as YAML, an empty value, `~` and what begins with # would be nothing
    return {"type": kind, **settings}
