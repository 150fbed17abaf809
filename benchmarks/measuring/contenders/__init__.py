"""The table of contenders. A new one is one file with an adapter and one more entry of `CONTENDERS`."""

from measuring.contenders.backpack import BatchL2
from measuring.contenders.captum import SampleGradients
from measuring.contenders.contender import Contender, Expected, Run, Unavailable, largest_difference
from measuring.contenders.contrast import Contrast
from measuring.contenders.floor import Floor
from measuring.contenders.forward import Forward
from measuring.contenders.gradient_metrics import Collector
from measuring.contenders.instrument import Instrument
from measuring.contenders.loop import Loop
from measuring.contenders.opacus import Opacus
from measuring.contenders.pytorch_ood import GradUncertainty
from measuring.contenders.scio import GradNorm
from measuring.contenders.torchjd import Gramian
from measuring.contenders.training_step import TrainingStep
from measuring.contenders.vmap import Vmap

#: The names of the two bounds that ratios refer to, and of the instrument.
STEP, FLOOR, INSTRUMENT = "training-step", "floor", "instrument"

#: All contenders, in the order of the tables.
CONTENDERS: dict[str, Contender] = {
    "forward": Forward(),
    FLOOR: Floor(),
    STEP: TrainingStep(train_mode=False),
    "training-step-train-mode": TrainingStep(train_mode=True),
    INSTRUMENT: Instrument(),
    "loop": Loop(),
    "vmap": Vmap(),
    "pytorch-ood": GradUncertainty(),
    "backpack": BatchL2(),
    "opacus": Opacus(ghost=False),
    "opacus-ghost": Opacus(ghost=True),
    "torchjd": Gramian(),
    "captum": SampleGradients(),
    "gradient-metrics": Collector(),
    "scio": GradNorm(),
}

#: Those that are measured where the number of classes grows, and the ones above.
EVERY: dict[str, Contender] = {
    **CONTENDERS,
    "contrast": Contrast(grams=False),
    "class-grams": Contrast(grams=True),
}

__all__ = [
    "CONTENDERS",
    "EVERY",
    "FLOOR",
    "INSTRUMENT",
    "STEP",
    "Contender",
    "Expected",
    "Run",
    "Unavailable",
    "largest_difference",
]
