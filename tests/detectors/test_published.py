"""Each baseline against its published definition: worked by hand, by autograd, or by another library."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import pytorch_ood.detector
import torch
from pytorch_ood.utils import GridSearch
from scipy import ndimage, stats
from scipy.special import logsumexp, softmax
from sklearn.covariance import EmpiricalCovariance
from sklearn.linear_model import LogisticRegressionCV
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gradiometer.detectors import (
    DDU,
    GAIA,
    KNN,
    LID,
    MSP,
    ODIN,
    DeepEnsemble,
    ExGrad,
    FeatureSqueezing,
    GradNorm,
    GradTrust,
    GradUncertainty,
    Mahalanobis,
    MCDropout,
    NormalizedMahalanobis,
    ReAct,
    ViM,
    uncertainty,
)
from gradiometer.errors import InputError, ModelError


def features(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model[:10](images).double().numpy()


def last_gradients(model: nn.Module, images: torch.Tensor, loss) -> list[np.ndarray]:
    """Gradient of a loss of the logits with respect to the weight of the last layer, one image at a time."""
    found = []
    for image in images:
        (gradient,) = torch.autograd.grad(loss(model.double()(image[None].double())), model[10].weight)
        found.append(gradient.numpy())
    model.float()
    return found


def test_odin_takes_its_step_towards_the_predicted_class():
    model = nn.Linear(2, 2, bias=False).eval()
    model.weight.data = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    # z = (1, -2) predicts class 0, and both values have to grow for more of it: z' = (1.1, -2.1), halved by T = 2.
    score = ODIN(model, temperature=2, epsilon=0.1).predict(torch.tensor([[1.0, 2.0]]))
    assert score.tolist() == pytest.approx([-1 / (1 + np.exp(-1.6))], rel=1e-6)
    still = ODIN(model, temperature=2, epsilon=0).predict(torch.tensor([[1.0, 2.0]]))
    assert still.tolist() == pytest.approx([-1 / (1 + np.exp(-1.5))], rel=1e-6)
    # Normalised images with a deviation of 0.5: a step of 0.1 of the image is one of 0.2.
    scaled = ODIN(model, temperature=2, epsilon=0.1, deviations=[0.5, 0.5]).predict(torch.tensor([[1.0, 2.0]]))
    assert scaled.tolist() == pytest.approx([-1 / (1 + np.exp(-1.7))], rel=1e-6)


def test_odin_is_that_of_pytorch_ood(model, digits):
    images = digits.test[0][:40]
    peer = pytorch_ood.detector.ODIN(model, temperature=10, eps=0.01)
    np.testing.assert_allclose(ODIN(model, 10, 0.01).predict(images), peer.predict(images).double(), rtol=1e-5)


def test_the_published_grid_of_odin_can_be_searched(model, digits, noisy):
    images = torch.cat([digits.held_out[0][:60], noisy[:60]])
    labels = torch.cat([digits.held_out[1][:60], torch.full((60,), -1)])
    loader = DataLoader(TensorDataset(images, labels), batch_size=120)
    detector = ODIN(model)
    space = {"temperature": [1, 1000], "epsilon": [0, 0.05]}
    assert set(space["temperature"]) <= set(detector.hyperparameter_space["temperature"])
    best = GridSearch(detector, None, loader, space).run()
    assert (detector.temperature, detector.epsilon) == (best["temperature"], best["epsilon"])


def test_inputs_that_cannot_be_moved_are_refused(model):
    with pytest.raises(InputError, match="needs one floating point tensor"):
        ODIN(nn.Embedding(5, 3).eval()).predict(torch.tensor([1, 2]))
    with pytest.raises(InputError, match="temperature is 0"):
        ODIN(model, temperature=0)
    with pytest.raises(InputError, match="epsilon is -1"):
        Mahalanobis(model, epsilon=-1)


def half_distances(known: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    means = np.stack([known[labels == k].mean(0) for k in range(10)])
    fitted = EmpiricalCovariance(assume_centered=True).fit(known - means[labels])
    return np.min([fitted.mahalanobis(queries - mean) / 2 for mean in means], axis=0)


def pooled(model: nn.Module, images: torch.Tensor) -> list[np.ndarray]:
    """Inputs of the layers 3, 8 and 10, averaged over positions."""
    with torch.no_grad():
        first, second, third = model[:3](images), model[:8](images), model[:10](images)
    return [first.mean((2, 3)).double().numpy(), second.double().numpy(), third.double().numpy()]


def test_mahalanobis_is_the_formula_with_the_empirical_covariance(model, digits):
    (images, labels), queries = digits.fit, digits.test[0][:50]
    known, others = pooled(model, images), pooled(model, queries)
    single = Mahalanobis(model).fit(digits.fit).predict(queries)
    np.testing.assert_allclose(single, half_distances(known[2], labels.numpy(), others[2]), rtol=1e-3)
    several = Mahalanobis(model, layers=3).fit(digits.fit)
    layers = [half_distances(k, labels.numpy(), o) for k, o in zip(known, others, strict=True)]
    np.testing.assert_allclose(several.predict(queries), np.sum(layers, axis=0), rtol=1e-3)
    assert several.explain(queries[:1]).names == ("inputs of 3", "inputs of 8", "inputs of 10")


def test_the_input_step_is_that_of_pytorch_ood():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).eval()
    labels = torch.arange(800) % 4
    known = torch.randn(800, 6) + 2 * torch.randn(4, 6)[labels]
    queries = torch.randn(30, 6)
    peer = pytorch_ood.detector.MahalanobisODIN(model[:2], eps=0.05)
    with torch.no_grad():
        peer.fit_features(model[:2](known), labels)
    ours = Mahalanobis(model, epsilon=0.05).fit((known, labels)).predict(queries)
    # Its covariance is a sum, not a mean, which divides the score by the number of images.
    np.testing.assert_allclose(ours, 800 * peer.predict(queries).numpy(), rtol=1e-3)
    assert (ours < Mahalanobis(model).fit((known, labels)).predict(queries)).all()


def test_the_feature_ensemble_is_a_logistic_regression_on_the_distances(model, digits, noisy):
    (images, labels), queries = digits.fit, digits.test[0][:30]
    detector = Mahalanobis(model, layers=3).fit(digits.fit, challenges=noisy)
    known = pooled(model, images)
    layers = [
        np.stack([half_distances(k, labels.numpy(), p) for k, p in zip(known, pooled(model, x), strict=True)], axis=1)
        for x in (images, noisy, queries)
    ]
    both = np.concatenate(layers[:2])
    target = np.repeat([0, 1], [len(images), len(noisy)])
    order = np.random.default_rng(0).permutation(len(target))
    standard = [(part - both.mean(0)) / both.std(0) for part in (both, layers[2])]
    regression = LogisticRegressionCV(
        l1_ratios=(0.0,), use_legacy_attributes=False, scoring="accuracy", class_weight="balanced", max_iter=1000
    ).fit(standard[0][order], target[order])
    np.testing.assert_allclose(detector.predict(queries), regression.decision_function(standard[1]), atol=0.05)
    found = torch.cat([detector.predict(digits.test[0]), detector.predict(noisy)])
    assert stats.mannwhitneyu(found[len(digits.test[0]) :], found[: len(digits.test[0])]).statistic > 0.9 * 497**2


def test_lid_is_the_estimate_on_a_kept_batch(model, digits, noisy):
    detector = LID(model, neighbours=7, reference=40, layers=3, seed=3).fit(digits.fit, challenges=noisy)
    queries = digits.test[0][:20]
    drawn = np.random.default_rng(3).permutation(len(digits.fit[0]))[:40]
    profile = []
    for known, others in zip(pooled(model, digits.fit[0][drawn]), pooled(model, queries), strict=True):
        column = []
        for query in others:
            nearest = sorted(np.linalg.norm(query - row) for row in known)[:7]
            column.append(-1 / np.mean([np.log(r / nearest[-1]) for r in nearest]))
        profile.append(column)
    np.testing.assert_allclose(detector._dimensions(detector._measure(queries).statistics).T, profile, rtol=1e-4)
    with pytest.raises(InputError, match="LID learns from challenges too"):
        LID(model).fit(digits.fit)
    with pytest.raises(InputError, match="too few for a reference of 1000"):
        LID(model, reference=1000).fit(digits.fit, challenges=noisy)
    with pytest.raises(InputError, match="neighbours is 101; give a whole number from 2 to 100"):
        LID(model, neighbours=101)


def test_knn_is_the_distance_to_the_kth_unit_vector(model, digits):
    known, queries = features(model, digits.fit[0][:200]), features(model, digits.test[0][:20])
    known, queries = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (known, queries))
    expected = np.sort(np.linalg.norm(queries[:, None] - known, axis=2), axis=1)[:, 6]
    detector = KNN(model, 7).fit(digits.fit[0][:200])
    np.testing.assert_allclose(detector.predict(digits.test[0][:20]), expected, rtol=1e-4)
    with pytest.raises(InputError, match="6 known image"):
        KNN(model, 7).fit(digits.fit[0][:6])


def test_vim_is_the_virtual_logit_minus_the_energy(model, digits):
    known, queries = features(model, digits.fit[0]), features(model, digits.test[0][:40])
    weight, bias = (parameter.detach().double().numpy() for parameter in model[10].parameters())
    origin = -np.linalg.pinv(weight) @ bias
    # Right singular vectors are the eigenvectors of the uncentred covariance, the largest first.
    residual = np.linalg.svd(known - origin, full_matrices=False)[2][8:]
    norms, known_norms = (np.linalg.norm((x - origin) @ residual.T, axis=1) for x in (queries, known))
    alpha = (known @ weight.T + bias).max(1).mean() / known_norms.mean()
    expected = alpha * norms - logsumexp(queries @ weight.T + bias, axis=1)
    np.testing.assert_allclose(ViM(model, 8).fit(digits.fit).predict(digits.test[0][:40]), expected, rtol=1e-2)
    assert ViM(model).fit(digits.fit)._state()["residual"].shape == (32, 16)
    with pytest.raises(InputError, match="dimensions is 32 of 32 features"):
        ViM(model, 32).fit(digits.fit)


def test_react_cuts_the_features_off(model, digits):
    known, queries = features(model, digits.fit[0]), features(model, digits.test[0][:40])
    weight, bias = (parameter.detach().double().numpy() for parameter in model[10].parameters())
    cut = np.minimum(queries, np.quantile(known, 0.85))
    expected = -logsumexp(cut @ weight.T + bias, axis=1)
    np.testing.assert_allclose(ReAct(model, 0.85).fit(digits.fit).predict(digits.test[0][:40]), expected, rtol=1e-5)
    with pytest.raises(InputError, match="percentile is 90"):
        ReAct(model, 90)


def test_gradnorm_is_the_norm_that_autograd_gives(model, digits):
    images = digits.test[0][:15]
    gradients = last_gradients(model, images, lambda logits: -logits.log_softmax(1).sum())
    scores = GradNorm(model).predict(images)
    np.testing.assert_allclose(scores, [-np.abs(g).sum() for g in gradients], rtol=1e-4)
    peer = pytorch_ood.detector.GradNorm(model, param_filter=lambda name: name == "10.weight")
    with warnings_of_vmap():
        np.testing.assert_allclose(scores, 10 * peer.predict(images).double(), rtol=1e-3)


def test_exgrad_is_the_expected_norm_that_autograd_gives(model, digits):
    images = digits.test[0][:15]
    with torch.no_grad():
        p = softmax(model(images).double().numpy(), axis=1)
    expected = np.zeros(15)
    for k in range(10):
        gradients = last_gradients(model, images, lambda logits, k=k: -logits.log_softmax(1)[0, k])
        expected += p[:, k] * np.array([np.abs(g).sum() for g in gradients])
    np.testing.assert_allclose(ExGrad(model).predict(images), expected, rtol=1e-3)


def test_gradtrust_is_the_ratio_of_variances_that_autograd_gives(model, digits):
    images = digits.test[0][:15]
    gradients = last_gradients(model, images, lambda logits: F.mse_loss(logits, torch.full_like(logits, 0.1)))
    variances = [np.square(g).var(axis=1) for g in gradients]
    np.testing.assert_allclose(GradTrust(model).predict(images), [-v.max() / v.mean() for v in variances], rtol=1e-4)
    flat = nn.Linear(2, 4).eval()
    nn.init.zeros_(flat.weight)
    nn.init.constant_(flat.bias, 0.25)
    assert GradTrust(flat).predict(torch.ones(1, 2)).tolist() == [-1.0]


def test_graduncertainty_is_that_of_pytorch_ood(model, digits):
    # Its loss on probabilities is cut off where one of them underflows, so the network must not be too sure.
    unsure = copy.deepcopy(model)
    unsure[10].weight.data *= 0.3
    images = digits.test[0][:20]
    with warnings_of_vmap():
        expected = pytorch_ood.detector.GradUncertainty(unsure).predict(images)
    np.testing.assert_allclose(GradUncertainty(unsure).predict(images), expected.double(), rtol=1e-3)


def warnings_of_vmap():
    """pytorch-ood's own way to gradients of single samples; what torch says of it is not ours."""
    import warnings

    class Quiet(warnings.catch_warnings):
        def __enter__(self):
            entered = super().__enter__()
            warnings.simplefilter("ignore")
            return entered

    return Quiet()


def test_ddu_is_the_mixture_of_class_gaussians(model, digits):
    known, labels = features(model, digits.fit[0]), digits.fit[1].numpy()
    queries = features(model, digits.test[0][:30])
    densities = [
        np.log((labels == k).mean())
        + stats.multivariate_normal(
            known[labels == k].mean(0), np.cov(known[labels == k].T, bias=True) + 0.01 * np.eye(32)
        ).logpdf(queries)
        for k in range(10)
    ]
    expected = -logsumexp(densities, axis=0)
    np.testing.assert_allclose(DDU(model, 0.01).fit(digits.fit).predict(digits.test[0][:30]), expected, rtol=1e-4)
    with pytest.raises(InputError, match="jitter is 0"):
        DDU(model, 0)


def entropy(p: np.ndarray) -> np.ndarray:
    return -np.sum(p * np.log(p), axis=-1)


def test_mc_dropout_averages_over_all_thinned_networks():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2, bias=False)).eval()
    model[1].weight.data = torch.eye(2)
    x = torch.tensor([[0.7, -0.4], [1.5, 0.2]])
    # Four masks are equally likely, and what is kept is doubled.
    masks = np.array([[0, 0], [0, 2], [2, 0], [2, 2]])
    p = softmax(x.double().numpy() * masks[:, None], axis=-1)
    expected = {"total": entropy(p.mean(0)), "aleatoric": entropy(p).mean(0)}
    expected["epistemic"] = expected["total"] - expected["aleatoric"]
    for part, value in expected.items():
        scores = MCDropout(model, passes=2000, part=part).predict(x)
        np.testing.assert_allclose(scores, value, rtol=0.1, atol=2e-3)
    alone = MCDropout(model, passes=5).predict(x[1:])
    assert alone.tolist() == pytest.approx(MCDropout(model, passes=5).predict(x)[1:].tolist())
    assert alone.tolist() != MCDropout(model, passes=5, seed=1).predict(x[1:]).tolist()
    verdict = MCDropout(model).calibrate(torch.randn(40, 2, generator=torch.Generator().manual_seed(0))).judge(x)
    assert verdict.confidences == pytest.approx(softmax(x.double().numpy(), axis=1).max(1))
    assert verdict.names == ("total uncertainty", "aleatoric uncertainty", "epistemic uncertainty")
    assert not model[0]._forward_hooks


def test_channels_are_dropped_whole():
    model = nn.Sequential(nn.Dropout2d(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    seen = []
    model[1].register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    MCDropout(model, passes=6).predict(torch.ones(3, 8, 4, 4))
    assert all(len({*channel.flatten().tolist()}) == 1 for values in seen for channel in values[0])
    assert {float(value) for values in seen[1:] for value in values.unique()} == {0.0, 2.0}
    assert all(torch.equal(values[0], values[2]) for values in seen)


def test_what_has_no_dropout_is_refused(model):
    with pytest.raises(ModelError, match="no dropout layer"):
        MCDropout(model)
    dropping = nn.Sequential(nn.Dropout(0.1), nn.Linear(2, 2)).eval()
    with pytest.raises(InputError, match="passes is 1"):
        MCDropout(dropping, passes=1)
    with pytest.raises(InputError, match="part is 'some'"):
        MCDropout(dropping, part="some")


def test_a_deep_ensemble_is_as_uncertain_as_its_mean():
    torch.manual_seed(0)
    members = [nn.Linear(3, 4).eval() for _ in range(3)]
    x = torch.randn(20, 3)
    with torch.no_grad():
        p = np.stack([softmax(member(x).double().numpy(), axis=1) for member in members])
    for part, value in {
        "total": entropy(p.mean(0)),
        "aleatoric": entropy(p).mean(0),
        "epistemic": entropy(p.mean(0)) - entropy(p).mean(0),
    }.items():
        np.testing.assert_allclose(DeepEnsemble(members, part).predict(x), value, rtol=1e-4, atol=1e-6)
    verdict = DeepEnsemble(nn.ModuleList(members)).calibrate(torch.randn(40, 3)).judge(x)
    np.testing.assert_allclose(verdict.confidences, p.mean(0).max(1), rtol=1e-5)
    same = DeepEnsemble([members[0]] * 4, "epistemic").predict(x)
    np.testing.assert_allclose(same, 0, atol=1e-12)
    for wrong in (members[0], members[:1]):
        with pytest.raises(InputError, match="two or more"):
            DeepEnsemble(wrong)
    with pytest.raises(ModelError, match="train mode"):
        DeepEnsemble([members[0], nn.Linear(3, 4)]).predict(x)


def test_members_of_an_ensemble_are_looked_at_each_time():
    members = [nn.Linear(3, 4), nn.Linear(3, 4).eval()]
    ensemble = DeepEnsemble(members)
    x = torch.zeros(2, 3)
    with pytest.raises(ModelError, match="Linear '0' of the model is in train mode"):
        ensemble.predict(x)
    members[0].eval()
    assert len(ensemble.predict(x)) == 2
    members[1].train()
    with pytest.raises(ModelError, match="Linear '1' of the model is in train mode"):
        ensemble.predict(x)


def test_the_parts_of_uncertainty_add_up():
    generator = np.random.default_rng(0)
    p = generator.dirichlet([0.05] * 6, size=(5, 200))
    found = uncertainty.of_classes(p)
    np.testing.assert_allclose(found.total, found.aleatoric + found.epistemic, atol=1e-12)
    assert (found.epistemic >= 0).all()
    assert (found.total <= np.log(6) + 1e-12).all()
    means, variances = generator.normal(size=(4, 30)), generator.exponential(size=(4, 30))
    numbers = uncertainty.of_numbers(means, variances)
    draws = generator.normal(means, np.sqrt(variances), size=(40_000, 4, 30)).reshape(-1, 30)
    np.testing.assert_allclose(numbers.total, draws.var(0), rtol=0.05)
    np.testing.assert_allclose(uncertainty.of_numbers(means[[0, 0]], variances[[0, 0]]).epistemic, 0, atol=1e-12)
    with pytest.raises(InputError, match="sum to 1"):
        uncertainty.of_classes(p * 2)
    with pytest.raises(InputError, match="no variance below 0"):
        uncertainty.of_numbers(means, -variances)


def test_positions_are_averaged_wherever_the_channels_are():
    class Tokens(nn.Module):
        """(B, T, 6) or, with the sequence first, (T, B, 6) into the first layer."""

        def __init__(self, sequence_first: bool) -> None:
            super().__init__()
            self.sequence_first, self.body, self.head = sequence_first, nn.Linear(6, 5), nn.Linear(5, 3)

        def forward(self, x):
            x = torch.tanh(self.body(x.transpose(0, 1) if self.sequence_first else x))
            return self.head(x.mean(0 if self.sequence_first else 1))

    torch.manual_seed(0)
    x, labels = torch.randn(90, 4, 6), torch.arange(90) % 3
    model = Tokens(sequence_first=False).eval()
    detector = Mahalanobis(model, layers=["body"]).fit((x, labels))
    known, means = x.mean(1).double().numpy(), labels.numpy()
    fitted = EmpiricalCovariance(assume_centered=True)
    centres = np.stack([known[means == k].mean(0) for k in range(3)])
    fitted.fit(known - centres[means])
    expected = np.min([fitted.mahalanobis(known - centre) / 2 for centre in centres], axis=0)
    np.testing.assert_allclose(detector._measure(x).statistics[:, 0], expected, rtol=1e-3)
    with pytest.raises(ModelError, match=r"input \(4, 90, 6\) of the layer 'body' does not begin with 90 samples"):
        Mahalanobis(Tokens(sequence_first=True).eval(), layers=2).fit((x, labels))


def test_feature_squeezing_is_the_l1_distance_of_probabilities_around_a_median_filter(model, digits):
    images = digits.test[0][:30]
    squeezed = torch.from_numpy(ndimage.median_filter(images.numpy(), size=(1, 1, 3, 3), mode="nearest"))
    with torch.no_grad():
        before, after = (softmax(model(x).double().numpy(), axis=1) for x in (images, squeezed))
    scores = FeatureSqueezing(model).predict(images)
    np.testing.assert_allclose(scores, [sum(abs(b - a)) for b, a in zip(before, after, strict=True)], atol=1e-6)
    assert scores.min() >= 0
    assert scores.max() > 0.5
    with pytest.raises(InputError, match="no image to smooth"):
        FeatureSqueezing(nn.Linear(4, 2).eval()).predict(torch.rand(3, 4))


class Functional(nn.Module):
    """Calls its last layer, or all, as functions."""

    def __init__(self, *, every: bool) -> None:
        super().__init__()
        self.hidden, self.head, self.every = nn.Linear(64, 12), nn.Linear(12, 10), every
        self.norm = nn.BatchNorm1d(64)

    def forward(self, x):
        x = self.norm(x.flatten(1))
        x = F.relu(F.linear(x, self.hidden.weight, self.hidden.bias) if self.every else self.hidden(x))
        return F.linear(x, bias=self.head.bias, weight=self.head.weight)


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize(
    "kind",
    [KNN, NormalizedMahalanobis, DDU, ViM, ReAct, GradNorm, ExGrad, GradTrust, partial(GAIA, form="channel-average")],
    ids=lambda kind: getattr(kind, "__name__", "GAIA-A"),
)
def test_a_last_layer_that_is_called_as_a_function_is_that_of_its_module(kind, every, digits):
    torch.manual_seed(0)
    model = Functional(every=every).eval()
    modules = nn.Sequential(nn.Flatten(), model.norm, model.hidden, nn.ReLU(), model.head).eval()
    known, some = (digits.fit[0][:300], digits.fit[1][:300]), digits.test[0][:20]
    found, expected = (kind(each).fit(known).predict(some) for each in (model, modules))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", [ViM, GradNorm], ids=lambda kind: kind.__name__)
def test_a_last_layer_that_is_no_module_is_told_what_to_do(kind, digits):
    class Product(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.weight, self.function = nn.Parameter(torch.randn(10, 64)), function

        def forward(self, x):
            return self.function(x.flatten(1), self.weight)

    for function in (lambda x, weight: x @ weight.T, F.linear):
        with pytest.raises(ModelError, match=r"wrap .*torch\.nn\.Linear"):
            kind(Product(function).eval()).fit(digits.fit)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.parametrize("kind", [KNN, Mahalanobis, GradNorm, GAIA], ids=lambda kind: kind.__name__)
def test_torchscript_without_layers_to_look_into_is_told_what_to_do(kind, model, digits):
    for scripted in (torch.jit.script(model), torch.jit.freeze(torch.jit.script(model))):
        with pytest.raises(ModelError, match=r"give the torch\.nn\.Module that it was made from"):
            kind(scripted).fit(digits.fit)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_outputs_of_torchscript_and_of_inference_mode_are_enough_for_some(model, digits):
    expected = MSP(model).predict(digits.test[0][:20])
    with torch.inference_mode():
        untracked = copy.deepcopy(model)
    for other in (torch.jit.script(model), torch.jit.freeze(torch.jit.script(model)), untracked):
        found = MSP(other).fit(digits.fit).predict(digits.test[0][:20])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ModelError, match=r"torch\.inference_mode\(\)"):
        ODIN(untracked).predict(digits.test[0][:20])
