"""Purview and its control, against gradients that autograd gives one image at a time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

from gradiometer import gradients
from gradiometer.detectors import Control, DecisionNetwork, Purview
from gradiometer.detectors.profile import Profile
from gradiometer.errors import InputError


def softmax_loss(logits: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the softmax with a label of all ones: the objective of Purview unless told otherwise."""
    return -logits.log_softmax(1).sum()


def logits_loss(logits: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of the logits with a label of all ones."""
    return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


def one_by_one(model: nn.Module, images: torch.Tensor, loss=softmax_loss) -> tuple[np.ndarray, np.ndarray]:
    """Squared norms of the inputs of the weighted layers, and of the gradients of every parameter tensor."""
    activations, norms = [], []
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    seen: list[float] = []

    def see(_, args):
        seen.append(float(args[0].detach().double().square().sum()))

    for image in images:
        seen.clear()
        hooks = [module.register_forward_pre_hook(see) for module in layers]
        logits = model(image[None])
        for hook in hooks:
            hook.remove()
        grads = torch.autograd.grad(loss(logits), list(model.parameters()))
        activations.append(list(seen))
        norms.append([float(g.double().square().sum()) for g in grads])
    return np.array(activations), np.array(norms)


def density(known: np.ndarray, queries: np.ndarray, neighbours: int) -> np.ndarray:
    logs = np.log(known)
    mean, deviation = logs.mean(0), logs.std(0)
    reference, rows = (logs - mean) / deviation, (np.log(queries) - mean) / deviation
    return np.sort(np.linalg.norm(rows[:, None] - reference, axis=2), axis=1)[:, neighbours - 1]


def separation(detector, known, challenge) -> float:
    scores = torch.cat([detector.predict(known), detector.predict(challenge)])
    return float(roc_auc_score([0] * len(known) + [1] * len(challenge), scores))


@pytest.mark.parametrize(
    ("objective", "loss"),
    [(None, softmax_loss), (gradients.ConfoundingLabel(), logits_loss)],
    ids=["softmax", "logits"],
)
def test_purview_is_the_density_of_the_readings_of_a_loop(objective, loss, model, digits):
    known, queries = digits.fit[0][:120], digits.test[0][:30]
    (known_a, known_g), (a, g) = one_by_one(model, known, loss), one_by_one(model, queries, loss)
    scores = Purview(model, objective, neighbours=4).fit(known).predict(queries)
    expected = density(np.hstack([known_a, known_g]), np.hstack([a, g]), 4)
    assert scores.dtype == torch.float64
    np.testing.assert_allclose(scores, expected, rtol=2e-3)
    alone = Purview(model, objective, neighbours=4, activations=False).fit(known).predict(queries)
    np.testing.assert_allclose(alone, density(known_g, g, 4), rtol=2e-3)
    control = Control(model, neighbours=4).fit(known).predict(queries)
    np.testing.assert_allclose(control, density(known_a, a, 4), rtol=2e-3)


def test_the_model_is_left_as_found(model, digits):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    Purview(model).fit(digits.fit[0][:60]).calibrate(digits.held_out[0], 0.1).judge(digits.test[0][:5])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_known_only_sees_turned_digits(model, digits):
    detector = Purview(model).fit(digits.fit)
    turned = torch.rot90(digits.test[0], 1, (2, 3))
    assert separation(detector, digits.test[0], turned) > 0.95


def test_the_decision_network_learns_its_challenge(model, digits, noisy):
    images = digits.fit[0]
    shifted = (images + 0.4 * torch.randn(images.shape, generator=torch.Generator().manual_seed(5))).clamp(0, 1)
    for kind in (Purview, Control):
        known_only = separation(kind(model).fit(images), digits.test[0], noisy)
        matched = kind(model).fit(images, challenges=shifted)
        assert isinstance(matched.decision, DecisionNetwork)
        assert separation(matched, digits.test[0], noisy) > max(0.85, known_only)


def test_base_images_reach_the_decision_network(model, digits, monkeypatch):
    seen = {}

    def spy(self, known, challenges, known_groups=None, challenge_groups=None):
        seen["groups"] = known_groups, challenge_groups
        return self

    monkeypatch.setattr("gradiometer.detectors.decision.DecisionNetwork.fit", spy)
    monkeypatch.setattr("gradiometer.detectors.purview.Purview._profile", lambda self, values: values)
    images = SimpleNamespace(images=digits.fit[0][:30], labels=None, groups=np.arange(30) // 2)
    Purview(model).fit(images, challenges=[images, images])
    assert seen["groups"][0].tolist() == (np.arange(30) // 2).tolist()
    assert seen["groups"][1].tolist() == [*(np.arange(30) // 2)] * 2


@pytest.mark.parametrize(
    ("objective", "readings"),
    [
        (gradients.UniformTarget(), 16),
        (gradients.ConfoundingLabel(reading="softmax"), 16),
        (gradients.ContrastClasses([0, 3]), 4 + 2 * 12),
        (lambda outputs, inputs: outputs.logsumexp(1), 16),
    ],
)
def test_every_objective_can_be_read(model, digits, objective, readings):
    detector = Purview(model, objective).fit(digits.fit[0][:60])
    profile = detector.explain(digits.test[0][:3])
    assert profile.z.shape == (3, readings)
    assert len({*profile.names}) == readings
    assert torch.isfinite(detector.predict(digits.test[0][:3])).all()


def test_readings_can_be_chosen_by_name(model, digits):
    detector = Purview(model, parameters=["8.*", "10.weight"], activations=False).fit(digits.fit[0][:60])
    names = detector.explain(digits.test[0][:1]).names
    assert names == ("gradient of 8.weight", "gradient of 8.bias", "gradient of 10.weight")


@pytest.mark.parametrize("layers", [3, ["3", "8"]], ids=["number", "names"])
def test_channels_are_read_one_by_one(layers, model, digits):
    images, into = digits.fit[0][:7], {}
    hooks = [
        model[at].register_forward_pre_hook(lambda _, args, at=at: into.__setitem__(at, args[0].detach().double()))
        for at in (3, 8, 10)
    ]
    likely = model(images).detach().double().softmax(1).sort(descending=True).values
    for hook in hooks:
        hook.remove()
    shares = (into[3] > 0).double().mean((2, 3))
    expected = torch.cat(
        [
            into[3].mean((2, 3)).square(),
            into[8].square(),
            into[10].square(),
            (shares + 1e-3) / (1.001 - shares),
            likely,
        ],
        1,
    )
    counts = (("mean", 3, 16), ("mean", 8, 128), ("mean", 10, 32), ("activity", 3, 16))
    names = tuple(f"{what} of channel {channel} into {at}" for what, at, count in counts for channel in range(count))
    names += tuple(f"probability {rank}" for rank in range(1, 11))
    for kind in (Purview, Control):
        found, alone = kind(model, layers=layers)._measure(images), kind(model)._measure(images)
        assert found.names == alone.names + names
        np.testing.assert_allclose(found.statistics[:, : len(alone.names)], alone.statistics, rtol=1e-5)
        np.testing.assert_allclose(found.statistics[:, len(alone.names) :], expected, rtol=1e-4, atol=1e-9)
    gradients_alone = Purview(model, activations=False, layers=layers)._measure(images)
    assert gradients_alone.names == Purview(model, activations=False)._measure(images).names + names


def test_a_decision_network_learns_more_from_channels(model, digits):
    """The challenge is mirrored images, which change norms less than what single channels show."""
    images, test = digits.fit[0], digits.test[0]
    plain, wide = (
        separation(kind.fit(images, challenges=images.flip(3)), test, test.flip(3))
        for kind in (Purview(model), Purview(model, layers=10))
    )
    assert wide > plain


def test_outputs_can_be_selected(model, digits):
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x):
            return {"features": x, "logits": self.inner(x)}

    expected = Purview(model).fit(digits.fit[0][:60]).predict(digits.test[0][:9])
    for output in ("logits", lambda found: found["logits"]):
        found = Purview(Wrapped().eval(), output=output).fit(digits.fit[0][:60]).predict(digits.test[0][:9])
        assert torch.equal(found, expected)


def test_the_explanation_names_the_layer_that_is_out_of_line():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3)).eval()
    known = torch.randn(400, 6)
    detector = Purview(model).fit(known).calibrate(torch.randn(200, 6))
    # Inputs of the usual kind, a thousand times smaller: what the first layer sees, and its weight gradient, shrink.
    profile = detector.explain(known[:5] / 1000)
    names = {name for name, _ in profile.ranked(0, 2)}
    assert names == {"activation into 0", "gradient of 0.weight"}
    assert all(z < -3.5 for _, z in profile.ranked(0, 2))
    verdict = detector.judge(known[:5] / 1000)
    assert np.array_equal(verdict.profile, profile.z)
    assert not verdict.trustworthy.any()
    assert "not trustworthy (p = 0.005)" in verdict.words(0)
    assert "activation into 0 (z = -" in verdict.words(0)
    assert "smaller than known)" in profile.words(0)


def test_robust_scores_are_those_of_the_median_and_its_deviation(model, digits):
    known, queries = digits.fit[0][:150], digits.test[0][:10]
    detector = Purview(model, activations=False).fit(known)
    known_logs, logs = np.log(one_by_one(model, known)[1]), np.log(one_by_one(model, queries)[1])
    deviation = stats.median_abs_deviation(known_logs, scale=1 / 1.4826)
    expected = (logs - np.median(known_logs, axis=0)) / deviation
    np.testing.assert_allclose(detector.explain(queries).z, expected, rtol=1e-3, atol=1e-3)


def test_words_count_and_name_what_is_out_of_line():
    profile = Profile(np.array([[0.5, -2.0, 1.0], [0.0, -4.0, 9.0], [0.0, 3.6, 0.0]]), ("one", "two", "three"))
    assert profile.words(0) == "none of 3 readings is out of line; the farthest is two (z = -2.0)"
    assert profile.words(1) == (
        "2 of 3 readings are out of line: three (z = +9.0, larger than known), two (z = -4.0, smaller than known)"
    )
    assert profile.words(1, top=1).endswith("three (z = +9.0, larger than known), ...")
    assert profile.words(2).startswith("1 of 3 readings is out of line: two (z = +3.6")


def test_a_reading_that_never_varied_is_out_of_line_when_it_moves():
    class Gate(nn.Module):
        """Its second half is dead unless the first value is large."""

        def __init__(self) -> None:
            super().__init__()
            self.usual, self.rare, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.head(self.usual(x) + self.rare(x) * (x[:, :1] > 50))

    torch.manual_seed(0)
    detector = Purview(Gate().eval(), activations=False).fit(torch.randn(100, 3))
    z = dict(detector.explain(torch.tensor([[60.0, 0.0, 0.0]])).ranked(0, 6))
    assert z["gradient of rare.weight"] == 100.0
    assert dict(detector.explain(torch.randn(1, 3)).ranked(0, 6))["gradient of rare.weight"] == 0.0


def test_arguments_that_make_no_sense_are_refused(model, digits):
    for kind in (Purview, Control):
        with pytest.raises(InputError, match="neighbours is 0"):
            kind(model, neighbours=0)
        with pytest.raises(InputError, match="layers is -1; give a whole number of 0 or more"):
            kind(model, layers=-1)
        with pytest.raises(InputError, match="uses no layer 'stem'"):
            kind(model, layers=["stem"]).fit(digits.fit[0][:60])
        with pytest.raises(InputError, match="too few for 10 neighbours"):
            kind(model).fit(digits.fit[0][:10])
    with pytest.raises(InputError, match="matches none"):
        Purview(model, parameters="encoder.*")
    with pytest.raises(InputError, match="fitted on input"):
        Purview(model).fit(digits.fit[0][:20], challenges=digits.fit[0][:20, :, :6, :6])
