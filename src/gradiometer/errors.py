"""The errors of this package. Each message says what was wrong, with which value, and what to do."""

from __future__ import annotations


class GradiometerError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(GradiometerError, ValueError):
    """Images, labels or settings that cannot be used: wrong shape, type, range or count, NaN or infinite values."""


class ModelError(GradiometerError, ValueError):
    """A model that cannot be read: train mode, outputs that are not logits, broken weights, samples that mix."""


class ArtefactError(GradiometerError, ValueError):
    """A saved file that cannot be used: truncated, of another model, of a newer schema, or not one of ours."""


class NotFittedError(GradiometerError, RuntimeError):
    """A detector that is asked for something before the step that makes it possible (fit or calibrate)."""


class DependencyError(GradiometerError, ImportError):
    """An optional dependency is missing; the message names the extra that brings it."""
