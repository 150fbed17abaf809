"""Every example runs, and what its text claims holds in its record."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.calibration import calibration_curve
from torch import nn


def test_more_data_leave_less_of_the_plane_uncertain(record):
    found = record("more_data")
    shares = [found["uncertain_share"]["prior"][size] for size in ("5", "20", "100", "500")]
    assert shares[0] > shares[1] > shares[3]
    assert shares[0] > shares[2] > 0
    assert found["smallest_information"] >= 0
    means = found["mean_information"]
    assert means["5"] > means["20"] > means["500"]


def test_points_of_a_larger_set_are_those_of_the_smaller_and_more(script):
    moons = script("more_data")["moons"]
    (few, classes), (many, more) = moons(20, 0), moons(500, 0)
    assert torch.equal(many[:20], few)
    assert torch.equal(more[:20], classes)
    assert set(classes.tolist()) == {0, 1}


def test_a_grid_begins_at_the_lower_left_and_goes_along_the_rows(script):
    more_data = script("more_data")
    places = more_data["plane"](5)
    assert places[0].tolist() == [more_data["LEFT"], more_data["BOTTOM"]]
    assert places[4].tolist() == [more_data["RIGHT"], more_data["BOTTOM"]]
    assert places[-1].tolist() == [more_data["RIGHT"], more_data["TOP"]]


def test_without_data_a_member_stays_where_it_was_drawn(script):
    ensembles = script("ensembles")
    nothing = lambda network: sum(weight.sum() for weight in network.parameters()) * 0  # noqa: E731
    torch.manual_seed(3)
    made = ensembles["network"](1, 2)
    for weight in made.parameters():
        spread = ensembles["SPREAD"] / weight.shape[1] ** 0.5 if weight.ndim == 2 else ensembles["SPREAD"]
        nn.init.normal_(weight, std=spread)
    found = ensembles["member"](3, 1, 2, nothing)
    for one, other in zip(found.parameters(), made.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_linear_member_is_the_posterior_mode(script):
    """For one weight w ~ N(w0, 1) and y = w x + noise of variance 1: (w0 + sum x y) / (1 + sum x²)."""
    ensembles = script("ensembles")
    line = nn.Linear(1, 1, bias=False)
    nn.init.constant_(line.weight, 2.0)
    x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [1.0]])

    def loss():
        return (line(x) - y).square().sum() / 2 + (line.weight - 2.0).square().sum() / 2

    found = ensembles["minimised"](line, loss, steps=50)
    assert found.weight.item() == pytest.approx((2 + 5) / (1 + 5), rel=1e-5)


def test_uncertainty_has_two_parts_that_live_in_different_places(record):
    found = record("two_uncertainties")
    for task in ("classes", "numbers"):
        parts = found[task]
        for region in ("noisy", "clear", "empty"):
            total = parts["aleatoric"][region] + parts["epistemic"][region]
            assert parts["total"][region] == pytest.approx(total, rel=1e-4)
            assert parts["epistemic"][region] >= 0
        assert parts["aleatoric"]["noisy"] > 2 * parts["aleatoric"]["clear"]
        assert parts["epistemic"]["empty"] > 2 * parts["epistemic"]["clear"]
    assert found["largest_difference_of_total_and_parts"] < 1e-12


def test_the_noise_is_where_it_is_said_to_be(script):
    two = script("two_uncertainties")
    points, labels = two["classes"](4000)
    wrong = labels != (points[:, 1] > 0)
    noisy = points[:, 0] < 0
    assert wrong[noisy].float().mean() == pytest.approx(two["FLIPPED"], abs=0.03)
    assert not wrong[~noisy].any()
    across, values = two["numbers"](4000)
    rest = values - torch.sin(across[:, 0])
    assert rest[:4000].std() == pytest.approx(two["NOISE"]["noisy"], rel=0.05)
    assert rest[4000:].std() == pytest.approx(two["NOISE"]["clear"], rel=0.05)


def predictions(count=300, classes=4):
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.full(classes, 0.4), count)
    return probabilities, generator.integers(classes, size=count)


def test_bins_give_the_calibration_error_of_a_loop(script):
    probabilities, labels = predictions()
    bins = script("confidence_gap")["Bins"].of(probabilities, labels)
    error = gap = 0.0
    for number in range(15):
        inside = [i for i, p in enumerate(probabilities) if number / 15 < max(p) <= (number + 1) / 15]
        if inside:
            confidence = sum(max(probabilities[i]) for i in inside) / len(inside)
            accuracy = sum(int(probabilities[i].argmax() == labels[i]) for i in inside) / len(inside)
            error += len(inside) / len(labels) * abs(confidence - accuracy)
            gap += len(inside) / len(labels) * (confidence - accuracy)
    assert 0 < error < 1
    assert bins.calibration_error == pytest.approx(error)
    assert bins.gap == pytest.approx(gap)


def test_bins_give_the_calibration_curve_of_scikit_learn(script):
    probabilities, labels = predictions()
    bins = script("confidence_gap")["Bins"].of(probabilities, labels)
    right = probabilities.argmax(1) == labels
    accuracy, confidence = calibration_curve(right, probabilities.max(1), n_bins=15)
    filled = bins.share > 0
    assert bins.accuracy[filled] == pytest.approx(accuracy)
    assert bins.confidence[filled] == pytest.approx(confidence)
    assert bins.share.sum() == pytest.approx(1)


def test_the_confidence_gap_is_that_between_confidence_and_accuracy(record):
    found = record("confidence_gap")
    for name in ("small", "large"):
        assert 0 <= found["calibration_error"][name] <= 1
        gap = found["confidence"][name] - found["accuracy"][name]
        assert found["gap"][name] == pytest.approx(gap, abs=1e-5)
        assert abs(gap) <= found["calibration_error"][name] + 1e-5
        assert found["accuracy"][name] > 0.7


def test_the_shipped_networks_are_asked_about_cifar(record, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    pixels = generator.integers(256, size=(40, 32, 32, 3), dtype=np.uint8)
    np.savez(root / "cifar10.npz", test_images=pixels, test_labels=np.arange(40) % 10)
    found = record("confidence_gap", "--data-root", root, written="confidence_gap_cifar10")
    assert set(found["gap"]) == {"densenet-bc-40-12-cifar10", "resnet20-cifar10"}
    # Noise has no class: whatever they say is hardly ever right, and they do not know it.
    assert all(share < 0.5 for share in found["accuracy"].values())
    assert all(gap > 0.1 for gap in found["gap"].values())


def test_both_views_are_measured_with_and_without_the_constraint(record):
    found = record("activation_and_gradient")
    assert found["images"]["abnormal"] > 5 * found["images"]["normal"] > 0
    assert set(found["auroc"]) == {"3"}
    for name in ("without", "with"):
        assert set(found["auroc"]["3"][name]) == {"reconstruction", "cosine"}
        assert all(0 <= value <= 1 for value in found["auroc"]["3"][name].values())
        assert all(-1 <= value <= 1 for value in found["mean_cosine"][name].values())
        assert found["mean_cosine"][name]["normal"] > found["mean_cosine"][name]["abnormal"]
    assert found["auroc"]["3"]["with"] != found["auroc"]["3"]["without"]


def test_no_sign_is_fixed_on_the_toy_manifold(record):
    found = record("contrast_classes")
    side = found["auroc_of_a_larger_norm_when_unknown"]
    for name in ("all ones, logits", "all ones, softmax"):
        assert side[name]["between"] < 0.5 < side[name]["beyond"]
    assert side["predicted class"]["beyond"] < 0.5 < side["predicted class"]["between"]
    assert found["difference_of_the_sum_of_classes_and_all_ones"] < 1e-5
    norms = found["squared_norm_for_each_class"]["known"]
    assert norms.index(min(norms)) == 0  # the probe lies in the middle of class 0
    assert found["accuracy"] > 0.95


def test_norms_of_the_contrast_classes_are_those_of_backpropagation(script):
    contrast = script("contrast_classes")
    network = contrast["learnt"](*contrast["blobs"](20, seed=0), steps=20)
    probe = torch.tensor([[1.0, -3.0]])
    found = contrast["norms"](network, contrast["ContrastClasses"](), probe)[0]
    for number in range(4):
        loss = nn.functional.cross_entropy(network(probe), torch.tensor([number]))
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        assert found[number] == pytest.approx(sum(float(one.square().sum()) for one in gradients), rel=1e-4)


def test_a_step_towards_a_class_is_one_of_gradient_descent_and_leaves_the_network(script):
    contrast = script("contrast_classes")
    network = contrast["learnt"](*contrast["blobs"](20, seed=0), steps=20)
    before = [weight.clone() for weight in network.parameters()]
    probe = torch.tensor([[-2.0, 2.0]])
    moved = contrast["towards"](network, probe, 2)
    assert all(torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True))
    optimizer = torch.optim.SGD(network.parameters(), contrast["STEP"])
    optimizer.zero_grad()  # of the training
    nn.functional.cross_entropy(network(probe), torch.tensor([2])).backward()
    optimizer.step()
    for one, other in zip(moved.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_unknown_places_are_far_from_every_blob(script):
    contrast = script("contrast_classes")
    places = torch.tensor([[0.0, 0.0], [-2.0, 2.0], [-5.0, 0.0], [2.0, 3.0], [0.0, 2.0]])
    found = contrast["unknown"](places)
    assert found["between"].tolist() == [True, False, False, False, True]
    assert found["beyond"].tolist() == [False, False, True, False, False]


def test_the_profile_has_every_tensor_and_every_objective(record):
    found = record("layer_profile")
    assert found["tensors"] == 10
    for name in ("all ones, softmax", "all ones, logits", "predicted class"):
        medians = found["medians"][name]
        higher = sum(medians["letters"][tensor] > medians["digits"][tensor] for tensor in medians["digits"])
        assert found["tensors_with_higher_median_for_letters"][name] == higher
        assert all(math.isfinite(value) for side in medians.values() for value in side.values())
        assert all(0 <= value <= 1 for value in found["auroc_of_a_larger_norm_for_letters"][name].values())


def test_the_map_of_the_energy_adds_up_to_the_squared_norm(record):
    found = record("information_and_uncertainty")
    assert found["difference_of_map_and_norm"] < 1e-4
    assert found["area"] == pytest.approx({"bar": 3 * 14 / 16**2, "below": 2 * 14 / 16**2}, rel=1e-5)
    for maps in found["share"].values():
        for share in maps.values():
            assert 0 <= share["bar"] + share["below"] <= 1


def test_the_energy_of_one_position_is_the_derivative_along_the_gradient(script):
    """The layer is linear in its weight: position p adds <e_p, out_p(w + G) - out_p(w)>."""
    example = script("information_and_uncertainty")
    torch.manual_seed(0)
    network = nn.Sequential()
    network.add_module("conv2", nn.Conv2d(1, 3, 3, padding=1))
    network.add_module("relu", nn.ReLU())
    network.add_module("flat", nn.Flatten())
    network.add_module("fc", nn.Linear(3 * 25, 4))
    network.eval()
    image = torch.rand(1, 1, 5, 5)
    found = example["energy"](network, image)[0]
    out = network.conv2(image)
    logits = network.fc(network.flat(network.relu(out)))
    loss = 4 * nn.functional.cross_entropy(logits, torch.full((1, 4), 0.25))  # the softmax reading of all ones
    error, gradient = torch.autograd.grad(loss, [out, network.conv2.weight])
    with torch.no_grad():
        network.conv2.weight += gradient
        change = network.conv2(image) - out
    torch.testing.assert_close(found, (error * change)[0].sum(0), rtol=1e-4, atol=1e-5)


def test_the_share_in_the_bar_is_counted_by_hand(script):
    example = script("information_and_uncertainty")
    maps = torch.zeros(3, 16, 16)
    maps[0, 2, 5], maps[0, 10, 5] = 3.0, 1.0
    maps[1, 2, 5], maps[1, 10, 5] = -3.0, 1.0
    assert example["shares"](maps)[:, *example["BAR"]].sum((1, 2)).tolist() == pytest.approx([0.75, 0.0, 0.0])
    assert example["within"](maps, example["BAR"]) == pytest.approx(0.25)
    assert example["shares"](maps).sum((1, 2)).tolist() == pytest.approx([1, 1, 0])


def test_identical_members_do_not_disagree(script):
    """The mutual information of one network with itself is zero, whatever it says."""
    detectors = script("two_uncertainties")["DeepEnsemble"]
    network = nn.Linear(2, 3).eval()
    places = torch.randn(7, 2)
    assert detectors([network, network], part="epistemic").predict(places) == pytest.approx(np.zeros(7), abs=1e-9)
    total = detectors([network, network]).predict(places)
    assert total == pytest.approx(entropy(network(places).softmax(1).detach().numpy(), axis=1), rel=1e-4)
