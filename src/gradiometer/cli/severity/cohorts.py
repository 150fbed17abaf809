"""Naming images with what is known about them on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradiometer.cli import sources
from gradiometer.cli.command import option
from gradiometer.cli.sources import Reading

if TYPE_CHECKING:
    from gradiometer.data import Cohort

FORMS = (
    "a folder, FILE.npz, or a name in --data-root, with :SPLIT for its split; a folder with the archives of OLIVES "
    "with :train1, :test1, :test1_IRF, :pool1, ... or :labelled; gOLIVES/OLIVES_Dataset"
)
_GROUP = "tables about the images"


@dataclass(frozen=True, kw_only=True)
class Described(Reading):
    """How images and what is known about them are read.

    Attributes:
        table: Table with a row for each image.
        key: Its column that names the image.
        patient: Its column that names the patient.
    """

    table: str | None = option(
        "table with a row for each image, .parquet or .csv, such as severity label writes; of a folder it decides "
        "which images are read, and of any other source its columns are added to what is known already",
        None,
        group=_GROUP,
    )
    key: str | None = option("its column that names the image, if it is none of the usual ones", None, group=_GROUP)
    patient: str | None = option(
        "its column that names the patient, if it is none of the usual ones", None, group=_GROUP
    )


def load(
    text: str,
    options: Described,
    *,
    table: str | None = None,
    limit: int | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
) -> Cohort:
    """The images that a name means, with their columns.

    Args:
        text: `SOURCE` or `SOURCE:SPLIT`.
        options: How to read.
        table: A table in the place of the one of the options.
        limit: At most so many images, a fixed random choice.
        size: Height and width to bring the images to, where the options say nothing.
        channels: Channels, likewise.

    Raises:
        InputError: There is no such source or table, or a share is asked for.
    """
    from gradiometer import data

    named = sources.parse_whole(text, "these commands read")
    return data.load_cohort(
        named.source,
        split=named.split,
        table=table or options.table,
        key=options.key,
        patient=options.patient,
        root=options.root,
        size=options.size or size,
        channels=options.channels or channels,
        limit=limit,
        download=options.download,
    )
