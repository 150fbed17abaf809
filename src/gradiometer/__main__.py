"""What `gradiometer` and `python -m gradiometer` run: it listens to interruptions before anything slow is imported."""

from __future__ import annotations

import sys

_INTERRUPTED = 130


def main() -> int:
    """Run the command line on the words of the process.

    Returns:
        The exit code.
    """
    try:
        from gradiometer.cli import main as run

        return run()
    except KeyboardInterrupt:
        # `run` says so itself once it has begun.
        sys.stderr.write("gradiometer: error: interrupted\n")
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
