"""The detectors of pytorch-ood as a base class. Its library has no types; those that users see are in `peer.pyi`."""

from __future__ import annotations

import pytorch_ood.api

PeerDetector = pytorch_ood.api.Detector
