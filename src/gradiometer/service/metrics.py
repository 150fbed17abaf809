"""What came and went, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest

from gradiometer.scoring import Row

_P_VALUES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Upper ends of the bins of p-values. Those of known images are spread evenly over 0 to 1, so the share of each bin
is its width; what piles up at the low end is the drift of a whole stream."""

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters and histograms of one application, in a registry of their own.

    Attributes:
        media_type: The content type of `text`.
    """

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._images = Counter(
            "gradiometer_images", "Images by outcome: trusted, flagged, failed.", ["outcome"], registry=self._registry
        )
        for outcome in ("trusted", "flagged", "failed"):
            self._images.labels(outcome)  # a counter that is not there yet cannot be told from one at zero
        self._p_values = Histogram(
            "gradiometer_p_value",
            "p-values of scored images: spread evenly as long as the images are of the known kind.",
            buckets=_P_VALUES,
            registry=self._registry,
        )
        self._answers = Counter(
            "gradiometer_requests", "Requests by the status of the answer.", ["code"], registry=self._registry
        )
        self._seconds = Histogram(
            "gradiometer_request_seconds", "Time from the last byte of a request to its rows.", registry=self._registry
        )
        self._batches = Histogram(
            "gradiometer_batch_images",
            "Images that went through the model at once.",
            buckets=_SIZES,
            registry=self._registry,
        )

    def request(self, rows: Sequence[Row], seconds: float) -> None:
        """Count the images of a request that was answered."""
        self._seconds.observe(seconds)
        for row in rows:
            outcome = "failed" if row.error is not None else "trusted" if row.trustworthy else "flagged"
            self._images.labels(outcome).inc()
            if row.p_value is not None:
                self._p_values.observe(row.p_value)

    def answer(self, code: int) -> None:
        """Count an answer, also one that refuses."""
        self._answers.labels(str(code)).inc()

    def batch(self, images: int) -> None:
        """Count a batch."""
        self._batches.observe(images)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
