"""The command line: parses, calls the library, prints. Nothing heavy is imported before a command runs.

Exit codes: 0 done, 1 an error of ours (one line on the error stream), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Sequence

from gradiometer.cli import benchmark, calibrate, challenge, demo, explain, fit, plan, score, train
from gradiometer.cli.command import Command, chosen, make_parser
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import GradiometerError

COMMANDS: tuple[Command, ...] = (
    demo.COMMAND,
    train.COMMAND,
    fit.COMMAND,
    calibrate.COMMAND,
    score.COMMAND,
    explain.COMMAND,
    challenge.COMMAND,
    plan.COMMAND,
    benchmark.COMMAND,
)
"""All commands, in the order in which one meets them."""

_INTERRUPTED = 128 + signal.SIGINT


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
    with warnings.catch_warnings():
        parsed = make_parser(COMMANDS).parse_args(None if arguments is None else list(arguments))
        warnings.showwarning = terminal.warn
        command, options, debug = chosen(COMMANDS, parsed)
        try:
            command.run(options, terminal)
        except KeyboardInterrupt:
            terminal.error("interrupted" + (f"; {command.interrupted}" if command.interrupted else ""))
            return _INTERRUPTED
        except (GradiometerError, OSError) as error:
            if debug:
                raise
            terminal.error(_words(error))
            return 1
    return 0


def _words(error: Exception) -> str:
    """One line. Messages of the library speak of its arguments, which have the same names as the flags."""
    return " ".join(str(error).split()) or type(error).__name__
