"""Close matches for a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(word: str, choices: Iterable[str], *, limit: int = 3, listed: int = 12) -> str:
    """A sentence that leads from a wrong name to a right one.

    Args:
        word: The name that was given.
        choices: The names that exist.
        limit: The number of close matches to name.
        listed: Without a close match, all the choices are named when there are no more than this.

    Example:
        >>> suggest("resnet21", ["resnet20", "digits-cnn"])
        'did you mean resnet20?'
    """
    known = sorted(set(choices))
    spelt = {name.lower(): name for name in reversed(known)}
    matches = [spelt[name] for name in difflib.get_close_matches(word.lower(), spelt, n=limit)]
    if matches:
        return f"did you mean {' or '.join(matches)}?"
    if known and len(known) <= listed:
        return f"choose one of {', '.join(known)}"
    return f"nothing among {len(known)} names is close to it" if known else "there is none to choose from"
