"""Guard against every step of it done by hand: hooks, autograd, scikit-learn, and ranks counted one by one."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from scipy import ndimage
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

from gradiometer.detectors import Fusion, Guard, Opinions, storage
from gradiometer.detectors.consistency import Consistency
from gradiometer.detectors.gaussians import ClassGaussians
from gradiometer.detectors.guard import STEP, spread
from gradiometer.detectors.members import Confidence, FeatureDistance, Views
from gradiometer.detectors.stability import ChangeDistance, shaken
from gradiometer.detectors.tails import Tail
from gradiometer.errors import InputError
from gradiometer.gradients import ContrastClasses


def by_hand(model: nn.Module, images: torch.Tensor) -> SimpleNamespace:
    """Logits, pooled inputs of the layers after the first, and squared norms, one image at a time."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    logits, pooled, active, norms = [], [[] for _ in layers[1:]], [[] for _ in layers[1:]], []
    seen: list[torch.Tensor] = []
    for image in images:
        seen.clear()
        hooks = [m.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().double())) for m in layers]
        output = model(image[None])
        for hook in hooks:
            hook.remove()
        uniform = torch.full_like(output, 1 / output.shape[1])
        gradients = torch.autograd.grad(F.cross_entropy(output, uniform), list(model.parameters()))
        logits.append(output.detach().double().numpy()[0])
        for place, value in zip(pooled, seen[1:], strict=True):
            place.append(value.mean((2, 3))[0].numpy() if value.ndim == 4 else value[0].numpy())
        for place, value in zip(active, seen[1:], strict=True):
            place.append([float((channel > 0).sum()) / channel.numel() for channel in value[0]])
        norms.append([float(value.square().sum()) for value in (*seen, *(g.double() for g in gradients))])
    active = [np.array(a) for a, value in zip(active, seen[1:], strict=True) if value.ndim == 4]
    pooled = [np.array(p) for p in pooled]
    return SimpleNamespace(logits=np.array(logits), pooled=pooled, active=active, norms=np.array(norms))


def changes_by_hand(here: SimpleNamespace, there: SimpleNamespace) -> np.ndarray:
    """Changes of the logits from the first to the last class, and logs of how far each pooled layer turned."""
    ranks = [sorted(range(len(row)), key=lambda k, row=row: -row[k]) for row in here.logits]
    logits = [[b[k] - a[k] for k in order] for a, b, order in zip(here.logits, there.logits, ranks, strict=True)]
    turned = [np.log(np.square(unit(a) - unit(b)).sum(1)) for a, b in zip(here.pooled, there.pooled, strict=True)]
    return np.concatenate([logits, np.stack(turned, axis=1)], axis=1)


def mahalanobis(known: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    means = np.stack([known[labels == k].mean(0) for k in range(10)])
    inverse = np.linalg.inv(ledoit_wolf(known - means[labels], assume_centered=True)[0])
    return np.array([[(q - m) @ inverse @ (q - m) for m in means] for q in queries])


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def minus_log_p(calibration: np.ndarray, scores: np.ndarray) -> np.ndarray:
    start = np.quantile(calibration, 0.9)
    excess = np.mean([c - start for c in calibration if c > start])
    counted = [-np.log((sum(c >= s for c in calibration) + 1) / (len(calibration) + 1)) for s in scores]
    return np.array(
        [np.log(10) + (s - start) / excess if s > start else c for s, c in zip(scores, counted, strict=True)]
    )


@pytest.mark.parametrize("members", ["five", "seven"])
@pytest.mark.parametrize(
    ("gradients", "step", "smoothing"),
    [
        (True, STEP, True),
        (False, STEP, False),
        (False, 0.1, True),
        (False, 0, True),
        (False, 0, False),
        (True, 0, False),
    ],
)
def test_the_score_is_the_sum_over_the_members(gradients, step, smoothing, members, model, digits):
    images, labels = digits.fit[0][:240], digits.fit[1][:240].numpy()
    asked = {"neighbours": 4, "step": step, "smoothing": smoothing, "members": members}
    detector = Guard(model, gradients, **asked).fit((images, labels))
    apart = Fusion(()).apart(np.arange(240))
    assert apart.sum() == 60
    signs = torch.randint(2, images.shape[1:], generator=torch.Generator().manual_seed(0)) * 2 - 1
    known, queries = by_hand(model, images), by_hand(model, digits.test[0][:20])
    for seen, pixels in ((known, images), (queries, digits.test[0][:20])):
        seen.changes = changes_by_hand(seen, by_hand(model, pixels + step * signs)) if step else None
        median = torch.from_numpy(ndimage.median_filter(pixels.numpy(), size=(1, 1, 3, 3), mode="nearest"))
        after = torch.from_numpy(by_hand(model, median).logits)
        seen.loss = F.cross_entropy(after, torch.from_numpy(seen.logits.argmax(1)), reduction="none").numpy()
    activations = len(known.pooled) + 1
    fit, held_out = ~apart, apart

    def scores(of: SimpleNamespace, rows=slice(None)) -> list[np.ndarray]:
        features = mahalanobis(unit(known.pooled[-1][fit]), labels[fit], unit(of.pooled[-1][rows])).min(1)
        logits = mahalanobis(known.logits[fit], labels[fit], of.logits[rows])
        logits = logits[np.arange(len(logits)), of.logits[rows].argmax(1)]
        energy = -np.log(np.exp(of.logits[rows]).sum(1))
        seven = members == "seven"
        layers = np.stack(
            [
                np.log(
                    mahalanobis(k[fit], labels[fit], o[rows]).min(1)
                    if seven
                    else mahalanobis(unit(k[fit]), labels[fit], unit(o[rows])).min(1)
                )
                for k, o in zip(known.pooled, of.pooled, strict=True)
            ],
            axis=1,
        )
        largest = (np.exp(of.logits[rows]) / np.exp(of.logits[rows]).sum(1, keepdims=True)).max(1)
        unsure = -np.log(largest / (1 - largest))
        active = np.stack(
            [
                np.log(mahalanobis(np.arcsin(k[fit] ** 0.5), labels[fit], np.arcsin(o[rows] ** 0.5)).min(1))
                for k, o in zip(known.active, of.active, strict=True)
            ],
            axis=1,
        )
        used = slice(None) if gradients else slice(0, activations)
        logs, reference = np.log(of.norms[rows][:, used]), np.log(known.norms[fit][:, used])
        mean, deviation = reference.mean(0), reference.std(0)
        apart_from = ((logs - mean) / deviation)[:, None] - (reference - mean) / deviation
        norms = np.sort(np.linalg.norm(apart_from, axis=2), axis=1)[:, 3]
        before = [features, logits, energy, *([unsure, layers, active] if seven else [layers])]
        if step:
            stability = mahalanobis(known.changes[fit], labels[fit], of.changes[rows])
            before.append(stability[np.arange(len(stability)), of.logits[rows].argmax(1)])
        return [*before, *([of.loss[rows]] if smoothing else []), norms]

    held, new = scores(known, held_out), scores(queries)
    for place, together in ((4, np.max), (5, np.sum)) if members == "seven" else ((3, np.max),):
        mean, deviation = held[place].mean(0), held[place].std(0)
        held[place], new[place] = (together((v - mean) / deviation, axis=1) for v in (held[place], new[place]))
    expected = np.stack([minus_log_p(h, n) for h, n in zip(held, new, strict=True)], axis=1)
    twice = expected[:, -2] if smoothing else 0
    np.testing.assert_allclose(detector.predict(digits.test[0][:20]), expected.sum(1) + twice, rtol=2e-3)
    opinions = detector.explain(digits.test[0][:20]).opinions
    np.testing.assert_allclose(opinions.p_values, np.exp(-expected), rtol=2e-2)
    layers = ("confidence", "layers", "activity") if members == "seven" else ("layers",)
    second = [name for name, there in (("stability", step), ("consistency", smoothing)) if there]
    assert opinions.names == ("features", "logits", "energy", *layers, *second, "norms")


def test_without_a_second_look_there_is_one_pass_and_the_guard_of_files_from_before_it(model, digits, tmp_path):
    passes = []
    handle = model.register_forward_hook(lambda *_: passes.append(1))
    images = digits.test[0][:40]
    seven, stepped = (Guard(model, step=step, smoothing=False).fit(digits.fit) for step in (0, STEP))
    calm, both = (Guard(model, step=step).fit(digits.fit) for step in (0, STEP))
    five = Guard(model, smoothing=False, members="five").fit(digits.fit)
    counts = []
    for detector in (seven, stepped, calm, both):
        passes.clear()
        detector.predict(images)
        counts.append(len(passes))
    handle.remove()
    assert counts == [counts[0], 2 * counts[0], 2 * counts[0], 3 * counts[0]]
    scores = [detector.predict(images) for detector in (seven, stepped, calm, both)]
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(scores, 2))
    assert torch.equal(Guard(model).fit(digits.fit).predict(images), calm.predict(images))

    header, arrays = five.contents()
    for name in ("step", "smoothing", "members"):  # as version 0.1 wrote it
        del header["parameters"][name]
    storage.write(tmp_path / "old.safetensors", header, arrays)
    old = Guard.load(tmp_path / "old.safetensors", model)
    assert (old.step, old.smoothing, old.members) == (0, False, "five")
    assert torch.equal(old.predict(images), five.predict(images))
    assert old.explain(images[:1]).opinions.names == ("features", "logits", "energy", "layers", "norms")
    for detector in (five, stepped, seven, calm, both):
        detector.save(tmp_path / "new.safetensors")
        again = Guard.load(tmp_path / "new.safetensors", model)
        assert (again.step, again.smoothing, again.members) == (detector.step, detector.smoothing, detector.members)
        assert torch.equal(again.predict(images), detector.predict(images))
        assert np.array_equal(again.explain(images).opinions.p_values, detector.explain(images).opinions.p_values)


def test_confidence_counts_odds_so_that_an_unsure_known_image_is_no_catastrophe():
    """A network that has learnt its training images by heart is far surer of them than of others of their kind."""
    gaps = np.random.default_rng(0).normal(20, 3, 400)

    def score(gap: np.ndarray) -> np.ndarray:
        logits = np.stack([gap, np.zeros(len(gap)), np.zeros(len(gap))], axis=1)
        return Confidence().score(Views(logits, (), logits))

    np.testing.assert_allclose(score(np.array([100.0, 0.0])), [np.log(2) - 100, np.log(2)])
    tail, unseen = Tail(score(gaps)), score(np.array([5.0]))
    assert 5 < tail.surprise(unseen)[0] < 20
    of_probabilities = Tail(np.log1p(np.exp(score(gaps))))
    assert of_probabilities.surprise(np.log1p(np.exp(unseen)))[0] > 1000


def test_the_step_is_the_same_for_every_image_in_any_batch(model, digits):
    detector = Guard(model, step=STEP).fit(digits.fit)
    images = digits.test[0][:60]
    together = detector.predict(images)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(detector.predict(images[order]), together[order], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        torch.cat([detector.predict(image[None]) for image in images[:8]]), together[:8], rtol=1e-4, atol=1e-4
    )
    state = torch.random.get_rng_state()
    assert torch.equal(detector.predict(images), together)
    assert torch.equal(torch.random.get_rng_state(), state)
    moved = shaken(images, 0.25, seed=3) - images
    torch.testing.assert_close(moved, moved[:1].expand_as(moved))
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.25))
    assert 0.3 < (moved[0] > 0).float().mean() < 0.7
    assert not torch.equal(shaken(images, 0.25, seed=3), shaken(images, 0.25, seed=4))


def test_only_floating_point_inputs_are_moved():
    numbers, tokens = torch.zeros(2, 5), torch.ones(2, 5, dtype=torch.long)
    moved = shaken({"x": numbers, "ids": tokens, "y": numbers.double()}, 0.5, seed=0)
    assert torch.equal(moved["ids"], tokens)
    assert moved["x"].abs().eq(0.5).all()
    assert moved["y"].dtype == torch.float64
    assert not torch.equal(moved["x"].double(), moved["y"])
    assert isinstance(shaken((numbers, tokens), 0.5, seed=0), tuple)
    assert shaken(tokens, 0.5, seed=0) is None


def test_tokens_have_no_step_and_no_picture_and_no_members_for_them(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(30, 12), nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    tokens = torch.randint(30, (160, 4), generator=torch.Generator().manual_seed(0))
    detector = Guard(model, step=STEP).fit(tokens[:120])
    verdict = detector.calibrate(tokens[120:]).judge(tokens[:5])
    assert verdict.opinions.names == ("features", "logits", "energy", "confidence", "layers", "norms")
    detector.save(tmp_path / "tokens.safetensors")
    assert torch.equal(
        Guard.load(tmp_path / "tokens.safetensors", model).predict(tokens[:5]), torch.from_numpy(verdict.scores)
    )


def test_the_twin_reads_no_gradients_and_is_otherwise_the_same(model, digits):
    names = Guard(model, gradients=True).fit(digits.fit).explain(digits.test[0][:2]).names
    twin = Guard(model).fit(digits.fit).explain(digits.test[0][:2]).names
    assert names[: len(twin)] == twin
    assert all(name.startswith("gradient of ") for name in names[len(twin) :])
    assert not any("gradient" in name for name in twin)
    assert twin == (
        "logits",
        *(f"inputs of {layer}" for layer in ("3", "8", "10")),
        "active channels into 3",
        "loss when smoothed",
        *(f"activation into {layer}" for layer in ("0", "3", "8", "10")),
    )
    stepped = Guard(model, step=STEP).fit(digits.fit).explain(digits.test[0][:2]).names
    assert stepped == (*twin[:5], "changes under a step", *twin[5:])
    five = Guard(model, step=STEP, members="five").fit(digits.fit).explain(digits.test[0][:2]).names
    assert five == (*twin[:4], "changes under a step", *twin[5:])


def test_an_objective_of_several_labels_has_a_column_for_each(model, digits):
    detector = Guard(model, True, ContrastClasses([0, 3])).fit((digits.fit[0][:90], digits.fit[1][:90]))
    profile = detector.explain(digits.test[0][:3])
    assert profile.z.shape == (3, len(profile.names)) == (3, 1 + 3 + 1 + 1 + 4 + 2 * 12)
    assert profile.names[-1] == "gradient of 10.bias for contrast 1"


def test_the_members_say_what_is_strange():
    torch.manual_seed(0)
    # Without biases a larger input has larger features and logits in the same directions.
    model = nn.Sequential(nn.Linear(6, 30, bias=False), nn.ReLU(), nn.Linear(30, 3, bias=False)).eval()
    known = torch.randn(600, 6)
    detector = Guard(model).fit(known[:400]).calibrate(known[400:])
    loud = detector.judge(20 * known[400:405])
    assert not loud.trustworthy.any()
    said = dict(zip(loud.opinions.names, loud.opinions.p_values.T, strict=True))
    usual = detector.judge(known[400:405]).opinions.p_values[:, 0]
    np.testing.assert_allclose(said["features"], usual, rtol=1e-4)
    assert (said["logits"] < 1e-6).all()
    assert (said["norms"] < 1e-6).all()
    assert "unlike known images in logits (p = " in loud.words(0)
    assert "ordinary in " in loud.words(0)
    assert loud.words(0).index("not trustworthy") < loud.words(0).index("unlike") < loud.words(0).index("readings")
    assert np.array_equal(loud.profile, detector.explain(20 * known[400:405]).z)


def test_strange_digits_are_found(model, digits, noisy):
    for gradients in (True, False):
        detector = Guard(model, gradients).fit(digits.fit)
        for strange in (torch.rot90(digits.test[0], 1, (2, 3)), noisy, 1 - digits.test[0]):
            scores = torch.cat([detector.predict(digits.test[0]), detector.predict(strange)])
            assert roc_auc_score([0] * len(digits.test[0]) + [1] * len(strange), scores) > 0.9


def test_without_labels_the_predictions_are_taken(model, digits):
    images = digits.fit[0]
    with torch.no_grad():
        predicted = model(images).argmax(1)
    expected = Guard(model).fit((images, predicted)).predict(digits.test[0][:50])
    assert torch.equal(Guard(model).fit(images).predict(digits.test[0][:50]), expected)


def test_a_class_without_an_image_has_no_mean(model, digits):
    images, labels = digits.fit
    detector = Guard(model).fit((images[labels != 3], labels[labels != 3]))
    test, test_labels = digits.test
    others, threes = detector.predict(test[test_labels != 3]), detector.predict(test[test_labels == 3])
    assert roc_auc_score([0] * len(others) + [1] * len(threes), torch.cat([others, threes])) > 0.9


def test_no_base_image_is_torn_apart(model, digits):
    groups = np.arange(300) // 3
    rows = Fusion((), seed=4).apart(groups)
    assert rows.sum() == 75
    assert all(len({*rows[groups == g]}) == 1 for g in range(100))
    assert not np.array_equal(rows, Fusion((), seed=5).apart(groups))
    images = SimpleNamespace(images=digits.fit[0][:300], labels=None, groups=np.zeros(300, dtype=int))
    with pytest.raises(InputError, match=r"1 base image\(s\) leave 0 known images to fit and 300 to hold out"):
        Guard(model).fit(images)


def test_too_few_known_images_are_refused(model, digits):
    with pytest.raises(InputError, match=r"59 known image\(s\) are too few to fit and to hold some out; give 60"):
        Guard(model).fit((digits.fit[0][:59], digits.fit[1][:59]))
    assert Guard(model).fit((digits.fit[0][:60], digits.fit[1][:60])).predict(digits.test[0][:3]).shape == (3,)
    with pytest.raises(InputError, match="label 10 is outside 0 to 9"):
        Guard(model).fit((digits.fit[0], digits.fit[1] + 1))
    for step in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="step is "):
            Guard(model, step=step)
    with pytest.raises(InputError, match="members is 'six'; give 'five' or 'seven'"):
        Guard(model, members="six")
    with pytest.raises(InputError, match="neighbours is 0"):
        Guard(model, neighbours=0)
    for layers in (0, []):
        with pytest.raises(InputError, match="layers is "):
            Guard(model, layers=layers)


def test_layers_are_spread_evenly_or_named(model, digits):
    layers = tuple(f"{number}.weight" for number in range(23))
    assert spread(layers, 4) == ("1.weight", "8.weight", "15.weight", "22.weight")
    assert spread(layers, 100) == layers[1:]
    assert spread(layers, 1) == ("22.weight",)
    assert spread(layers[:1], 3) == layers[:1]
    assert spread(layers, ["3", "0.weight"]) == ("0.weight", "3.weight", "22.weight")
    detector = Guard(model, layers=["3"]).fit((digits.fit[0][:100], digits.fit[1][:100]))
    assert detector.explain(digits.test[0][:1]).names[1:3] == ("inputs of 3", "inputs of 10")
    with pytest.raises(InputError, match="the model uses no layer 'stem'; there are: 0, 3, 8, 10"):
        Guard(model, layers=["stem"]).fit(digits.fit)


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    transformer = torchvision.models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=4
    )
    nn.init.normal_(transformer.heads.head.weight)  # zero at first, so that all logits would be alike
    fully_convolutional = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    return {
        "transformer": transformer,
        "fully convolutional": fully_convolutional,
        "perceptron": nn.Sequential(nn.Flatten(), nn.Linear(768, 20), nn.Tanh(), nn.Linear(20, 4)),
        "linear": nn.Sequential(nn.Flatten(), nn.Linear(768, 4)),
        "resnet": torchvision.models.resnet18(num_classes=4),
    }


@pytest.mark.parametrize("name", list(networks()))
@pytest.mark.parametrize("gradients", [True, False])
def test_any_network_will_do(name, gradients):
    network = networks()[name].eval()
    images = torch.rand(90, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    detector = Guard(network, gradients, layers=4).fit(images[:70]).calibrate(images[70:], 0.1)
    assert torch.isfinite(detector.predict(images[:5])).all()
    assert not detector.judge(1 - 9 * images[:5]).trustworthy.all()
    assert "inputs of" in detector.explain(images[:1]).names[1]
    positions = name in ("transformer", "fully convolutional", "resnet")
    assert ("activity" in detector.explain(images[:1]).opinions.names) == positions
    five = Guard(network, gradients, layers=4, members="five").fit(images[:70])
    assert torch.isfinite(five.predict(images[:5])).all()


def test_tails_go_on_where_ranks_end():
    known = np.random.default_rng(0).exponential(2.0, 4000)
    tail = Tail(known)
    assert tail.excess == pytest.approx(2.0, rel=0.1)
    # For exponential scores the true -log p is half the score, in the tail and beyond the largest known score.
    for score in (1.0, 3.0, 8.0, 30.0):
        assert float(tail.surprise([score])[0]) == pytest.approx(score / 2, rel=0.1)
    assert tail.surprise([-1.0]).tolist() == [0.0]
    rising = tail.surprise(np.linspace(-1, 50, 2000))
    assert (np.diff(rising) >= -1e-12).all()
    same = Tail(np.ones(50))
    assert same.surprise([1.0]).tolist() == [0.0]
    assert np.isfinite(same.surprise([2.0])).all()
    with pytest.raises(InputError, match="9 known score"):
        Tail(np.arange(9.0))
    with pytest.raises(InputError, match="50 known score"):
        Tail(np.full(50, np.nan))


def test_class_gaussians_are_the_formula():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 400)
    known = generator.normal(size=(400, 7)) * np.arange(1, 8) + labels[:, None]
    queries = generator.normal(size=(30, 7)) + 1e3
    expected = mahalanobis(known, labels, queries)
    gaussians = ClassGaussians.fit(known, labels)
    np.testing.assert_allclose(gaussians.squared_distances(queries), expected, rtol=1e-8)
    np.testing.assert_allclose(gaussians.nearest(queries), expected.min(1), rtol=1e-8)
    np.testing.assert_allclose(gaussians.to(queries, np.full(30, 4)), expected[:, 4], rtol=1e-8)
    few = ClassGaussians.fit(known[labels != 4], labels[labels != 4])
    np.testing.assert_array_equal(few.to(queries, np.full(30, 4)), few.nearest(queries))


def test_a_column_that_never_varies_gives_finite_distances():
    views = Views(np.zeros((40, 2)), (np.zeros((40, 3)),), np.zeros((40, 1)))
    member = FeatureDistance()
    member.fit(views, np.arange(40) % 2)
    assert np.isfinite(member.score(Views(np.zeros((1, 2)), (np.ones((1, 3)),), np.zeros((1, 1))))).all()


def test_what_was_not_read_is_no_opinion():
    views = Views(np.zeros((40, 2)), (np.zeros((40, 3)),), np.zeros((40, 1)))
    with pytest.raises(InputError, match="hold no changes under a step"):
        ChangeDistance().fit(views, np.arange(40) % 2)
    with pytest.raises(InputError, match="hold nothing of smoothed images"):
        Consistency().score(views)


def test_a_prediction_that_hangs_on_one_pixel_is_inconsistent():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight[:, 9] = torch.tensor([-8.0, 8.0])  # the pixel in the second row and column
        model[1].bias[:] = torch.tensor([4.0, -4.0])
    known = torch.rand(200, 1, 1, 1, generator=torch.Generator().manual_seed(0)).expand(200, 1, 8, 8).contiguous()
    detector = Guard(model).fit(known[:150]).calibrate(known[150:])
    spot, bright = torch.full((1, 1, 8, 8), 0.1), torch.full((1, 1, 8, 8), 0.9)
    spot[0, 0, 1, 1] = 0.9
    verdict = detector.judge(torch.cat([spot, bright]))
    assert verdict.predictions.tolist() == [1, 1]
    said = verdict.opinions.p_values[:, verdict.opinions.names.index("consistency")]
    assert said[0] < 1e-4
    assert said[1] > 0.1


def test_opinions_in_words():
    opinions = Opinions(("one", "two", "three"), np.array([[0.5, 0.6, 0.7], [1e-9, 0.02, 0.003], [1e-5, 1e-4, 1e-3]]))
    assert opinions.words(0) == "strange to no member by itself, least usual in one (p = 0.5) and two (p = 0.6)"
    assert opinions.words(1) == "unlike known images in one (p = 1e-09) and three (p = 0.003); ordinary in two"
    assert opinions.words(2) == "unlike known images in one (p = 1e-05), two (p = 0.0001) and three (p = 0.001)"
    assert Opinions.joined([opinions, opinions]).p_values.shape == (6, 3)
