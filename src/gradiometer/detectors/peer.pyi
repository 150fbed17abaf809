from abc import ABC
from typing import Any, ClassVar, Self

import torch
from pytorch_ood.api import DetectorInfo

class PeerDetector(ABC):
    requires_fit: bool
    hyperparameter_space: ClassVar[dict[str, list[Any]]]
    info: ClassVar[DetectorInfo | None]

    @property
    def device(self) -> torch.device | None: ...
    def to(self, device: str | torch.device) -> Self: ...
    def get_hyperparameters(self) -> dict[str, Any]: ...
    def set_hyperparameters(self, **kwargs: Any) -> Self: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
