"""The command line: parses, calls the library, prints. Nothing heavy is imported before a command runs.

Exit codes: 0 done, 1 an error of ours (one line on the error stream), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import re
import signal
import sys
import warnings
from collections.abc import Sequence

from gradiometer.cli import (
    benchmark,
    calibrate,
    challenge,
    demo,
    dial,
    explain,
    fit,
    outputs,
    plan,
    score,
    serve,
    severity,
    train,
    train_gradcon,
)
from gradiometer.cli.command import Command, check_values, chosen, completed, make_parser
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import GradiometerError

COMMANDS: tuple[Command, ...] = (
    demo.COMMAND,
    Command(
        name="train",
        summary="train a classifier, or an auto-encoder of normal images (gradcon)",
        purpose="""
            Train a network of your own images. Flags right after `train` are those of `train classifier`. Skip this
            when you have a classifier already.
        """,
        examples="""
            gradiometer train --architecture digits-cnn --known digits@0-50 --out runs/digits
            gradiometer train gradcon --known good-parts/ --size 64 --out runs/parts
        """,
        children=(train.COMMAND, train_gradcon.COMMAND),
        default=train.COMMAND.name,
    ),
    fit.COMMAND,
    calibrate.COMMAND,
    score.COMMAND,
    serve.COMMAND,
    explain.COMMAND,
    severity.COMMAND,
    challenge.COMMAND,
    plan.COMMAND,
    dial.COMMAND,
    benchmark.COMMAND,
)
"""All commands, in the order in which one meets them."""

_INTERRUPTED = 128 + signal.SIGINT

_CALLED_HERE = (
    (re.compile(r"\bsplit='(\w+)'"), r":\1 behind its name"),
    (re.compile(r"\b(size|channels)=(?= |$)"), r"--\1"),
    (re.compile(r"\broot=(?=[ ).]|$)"), "--data-root"),
    (re.compile(r"\bdownload=True\b"), "--download"),
)
"""Arguments about images, which messages of the library tell to give, and what is given here in their place."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after `gradiometer`; those of the process when None.

    Returns:
        The exit code.

    Raises:
        SystemExit: With code 0 after `--help` and `--print_config`, 2 for wrong usage.
    """
    terminal = Terminal()
    debug, kept = False, ""
    with warnings.catch_warnings():
        try:
            words = completed(COMMANDS, sys.argv[1:] if arguments is None else arguments)
            parsed = make_parser(COMMANDS).parse_args(words)
            warnings.showwarning = terminal.warn
            command, options, debug = chosen(COMMANDS, parsed)
            kept = command.interrupted
            check_values(options)
            outputs.check(options)
            command.run(options, terminal)
        except KeyboardInterrupt:
            terminal.error("interrupted" + (f"; {kept}" if kept else ""))
            return _INTERRUPTED
        except (GradiometerError, OSError) as error:
            if debug:
                raise
            terminal.error(_words(error))
            return 1
    return 0


def _words(error: Exception) -> str:
    """One line. Messages of the library speak of its arguments, which mostly have the same names as the flags."""
    said = " ".join(str(error).split()) or type(error).__name__
    for argument, flag in _CALLED_HERE:
        said = argument.sub(flag, said)
    return said
