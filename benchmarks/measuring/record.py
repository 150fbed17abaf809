"""What was measured so far, in a file that a later run continues."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from measuring import markdown


class Record:
    """Sections of figures in `STEM.json`, with the table that is rendered from them beside it.

    A section that was measured on the same machine, with the same versions, the same source of the package and the same
    settings, is finished: a run that was interrupted continues where it was, and a long one can be done in parts.

    Args:
        stem: Name of the files without their endings.
        schema: Number of the schema; sections of another one are left behind.
        render: Makes the table.
        folder: Where the files are; None keeps everything in memory.
    """

    def __init__(
        self, stem: str, schema: int, render: Callable[[Mapping[str, Any]], str], folder: Path | None = None
    ) -> None:
        self._stem, self._render, self._folder = stem, render, folder
        self.document: dict[str, Any] = {"schema": schema, "sections": []}
        path = None if folder is None else folder / f"{stem}.json"
        if path is not None and path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.get("schema") == schema:
                self.document = found

    def finished(self, key: Mapping[str, Any], environment: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
        """Whether a section is there and would come out the same, but for the weather."""
        section = self._section(key)
        if section is None:
            return False
        return same_machine(section["environment"], environment) and section["settings"] == settings

    def put(self, section: Mapping[str, Any], key: Mapping[str, Any]) -> None:
        """Take a section in, in the place of an earlier one of the same key, and write the files."""
        sections, earlier = self.document["sections"], self._section(key)
        if earlier is None:
            sections.append(section)
        else:
            sections[sections.index(earlier)] = section
        if self._folder is not None:  # after every section: an interruption loses nothing that was finished
            markdown.write(self._folder, self._stem, self.document, self.text)

    @property
    def text(self) -> str:
        """The table."""
        return self._render(self.document)

    def _section(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        found: list[dict[str, Any]] = self.document["sections"]
        return next((each for each in found if all(each[name] == value for name, value in key.items())), None)


def same_machine(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two environments differ in nothing but the date and the load."""
    passing = ("date", "load_average")
    return {name: value for name, value in one.items() if name not in passing} == {
        name: value for name, value in other.items() if name not in passing
    }
