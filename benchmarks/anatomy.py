"""Show where the time of a reading goes, layer by layer: what was measured beside what the cost model expects.

    python benchmarks/anatomy.py --networks resnet18 --output docs/results/anatomy

`benchmarks/README.md` says what the figures mean.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from measuring import anatomy
from measuring.comparison import Settings, compare, tell, threads
from measuring.environment import environment
from measuring.networks import DEFAULT, NETWORKS
from measuring.options import positive
from measuring.record import Record


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script and return its exit code."""
    options = _parser().parse_args(arguments)
    render = functools.partial(anatomy.render, most=options.most)
    if options.render is not None:
        print(render(json.loads(options.render.read_text(encoding="utf-8"))), end="")
        return 0
    threads(options.threads)
    record = Record("anatomy", anatomy.SCHEMA, render, options.output)
    settings = Settings(anatomy.BESIDE, options.repeats, seed=options.seed, patience=options.patience)
    for name in options.networks:
        network = NETWORKS[name]
        title = f"{network.title}, batch {options.batch}"
        about = {"environment": environment({"torch", "gradiometer"}), "settings": settings.to_dict()}
        beside = compare(network, options.batch, settings, lambda text, title=title: tell(f"{title}: {text}"))
        medians = {row["name"]: row["median"] for row in beside["rows"]}
        repeats = settings.rounds("instrument", medians["instrument"])
        found = anatomy.dissect(network, options.batch, options.seed, repeats)
        key = {"network": name, "batch": options.batch}
        record.put({**key, **found, "beside": medians, **about}, key)
    print(record.text, end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--networks", nargs="+", choices=NETWORKS, default=DEFAULT, help="networks to look into")
    add("--batch", type=positive, default=64, help="batch size")
    add("--repeats", type=positive, default=9, help="readings of which the medians are taken")
    add("--patience", type=float, default=20.0, help="seconds after which a contender is not timed again")
    add("--most", type=positive, default=40, help="layers that are shown of each network; the JSON holds all")
    add("--seed", type=int, default=0, help="seed of weights and inputs")
    add("--threads", type=positive, help="threads of PyTorch; its own choice when absent")
    add("--output", type=Path, metavar="DIR", help="folder for anatomy.json and anatomy.md")
    add("--render", type=Path, metavar="FILE", help="measure nothing; print the tables of an anatomy.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
