"""Write the cards of the networks behind the tables from their training records.

    python docs/render_models.py

Reads the record of every shipped network and those in `docs/results/models`; writes `docs/results/models/README.md`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gradiometer.models import shipped

FOLDER = Path(__file__).resolve().parent / "results" / "models"
_RECIPE = (
    "epochs",
    "batch_size",
    "learning_rate",
    "schedule",
    "momentum",
    "weight_decay",
    "augment",
    "average",
    "seed",
)


def rendered() -> str:
    """The page."""
    records = {name: (shipped.record(name), "comes with the package") for name in shipped.names()}
    for path in sorted(FOLDER.glob("*.json")):
        records[path.stem] = (json.loads(path.read_text(encoding="utf-8")), "trained for the tables, not shipped")
    cards = [_card(name, record, where) for name, (record, where) in records.items()]
    return (
        "# The networks behind the tables\n\nRendered by `python docs/render_models.py` from training records, which "
        "hold the figures of every epoch and hashes of images and weights.\n\n" + "\n".join(cards)
    )


def _card(name: str, record: dict[str, Any], where: str) -> str:
    recipe, environment, images = record["recipe"], record["environment"], record["images"]
    rows = {
        "architecture": f"{record['architecture']}, {record['classes']} classes, {record['channels']} channels of "
        f"{record['size']} pixels",
        "where": where,
        "test accuracy": f"{100 * record['test_accuracy']:.2f} % of {images['test']:,} images",
        "training images": f"{images['train']:,}",
        "recipe": ", ".join(f"{key} {recipe[key]}" for key in _RECIPE if key in recipe),
        "began with": "the weights of an earlier training" if record.get("started_from") else "random weights",
        "training time": f"{record['seconds']:.0f} s for the last {len(record['epochs'])} epochs on the "
        f"{environment['device']} ({environment['machine']}, {environment['threads']} thread(s))",
        "versions": f"torch {environment['torch']}, Python {environment['python']}",
        "weights, SHA-256": f"`{record['stored']['weights']}`",
        "training images, SHA-256": f"`{record['sha256']['train']}`",
        "test images, SHA-256": f"`{record['sha256']['test']}`",
    }
    lines = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"## {name}\n\n| | |\n|---|---|\n{lines}\n"


def main() -> None:
    """Write the page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "README.md").write_text(rendered(), encoding="utf-8")


if __name__ == "__main__":
    main()
