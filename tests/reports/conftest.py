"""An outcome with made-up scores."""

from __future__ import annotations

import numpy as np
import pytest

from gradiometer.benchmarks.outcome import Examples, Outcome, Profile, Scores
from tests.benchmarks.making import make_record

CHALLENGES = ("letters", "a <b> & c")
COLUMNS = (("MSP", "known-only", False), ("Purview", "known-only", False), ("Control", "known-only", True))


def make_outcome(*, tensors: int = 6, channels: int = 1) -> Outcome:
    generator = np.random.default_rng(0)
    records = [
        make_record(challenge=challenge, detector=detector, protocol=protocol, control=control)
        for challenge in CHALLENGES
        for detector, protocol, control in COLUMNS
    ]
    records.append(make_record(challenge="letters", protocol="matched"))
    records.append(make_record(challenge="re-encoded known", kind="null"))
    scores = [
        Scores("MSP", "known-only", False, name, generator.normal(size=50), generator.normal(size=40), 1.5)
        for name in CHALLENGES
    ]
    scores.append(Scores("Purview", "matched", False, "letters", np.zeros(5), np.zeros(5), None))
    return Outcome(
        title="What about <these>?",
        steps=("Did this & that.",),
        records=tuple(records),
        scores=tuple(scores),
        profile=Profile(
            tuple(f"layer{number}.weight" for number in range(tensors)),
            generator.normal(size=(30, tensors)),
            {name: generator.normal(size=(20, tensors)) + 1 for name in CHALLENGES},
        ),
        examples=tuple(
            Examples(
                name,
                generator.integers(0, 256, (3, channels, 8, 8)).astype(np.uint8),
                np.array([0.01, 0.5, 1.0]),
                np.array([True, False, False]),
            )
            for name in ("digits (known)", *CHALLENGES)
        ),
        judge="Purview (known-only)",
        false_alarm_rate=0.05,
    )


@pytest.fixture
def outcome() -> Outcome:
    return make_outcome()
