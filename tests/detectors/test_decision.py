"""The decision network on problems whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from gradiometer.detectors.decision import DecisionNetwork
from gradiometer.errors import InputError, NotFittedError


def problem(count: int, shift: float, seed: int, columns: int = 5) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.exp(generator.normal(size=(count, columns)) * 3 + shift * np.linspace(-1, 1, columns) - 30)


def auroc(network: DecisionNetwork, known: np.ndarray, challenges: np.ndarray) -> float:
    scores = [*network.score(known), *network.score(challenges)]
    return float(roc_auc_score([0] * len(known) + [1] * len(challenges), scores))


def test_it_reaches_the_best_possible_auroc_on_two_normal_distributions():
    network = DecisionNetwork(seed=1).fit(problem(1500, 0, 1), problem(1500, 4, 2))
    distance = np.linalg.norm(4 * np.linspace(-1, 1, 5) / 3)
    best = stats.norm.cdf(distance / np.sqrt(2))
    assert auroc(network, problem(2000, 0, 3), problem(2000, 4, 4)) == pytest.approx(best, abs=0.02)
    assert network.validation_auroc == pytest.approx(best, abs=0.05)


def test_it_learns_what_no_linear_rule_can():
    generator = np.random.default_rng(0)

    def ring(count: int, radius: float) -> np.ndarray:
        angle = generator.uniform(0, 2 * np.pi, count)
        return np.exp(radius * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1 * generator.normal(size=(count, 2)))

    network = DecisionNetwork().fit(ring(500, 1), ring(500, 2))
    assert auroc(network, ring(500, 1), ring(500, 2)) > 0.99


def test_it_finds_nothing_where_nothing_is():
    network = DecisionNetwork().fit(problem(600, 0, 1), problem(600, 0, 2))
    # Standard deviation of the AUROC of two samples of 3000 under the null (Mann-Whitney).
    spread = np.sqrt(6001 / (12 * 3000 * 3000))
    assert abs(auroc(network, problem(3000, 0, 3), problem(3000, 0, 4)) - 0.5) < 4 * spread


def test_both_sides_weigh_the_same_however_many_there_are():
    network = DecisionNetwork().fit(problem(2000, 0, 1), problem(200, 8, 2))
    known, challenges = network.score(problem(1000, 0, 3)), network.score(problem(1000, 8, 4))
    # Without weights the log-odds would sit about log 10 lower.
    assert (known > 0).mean() == pytest.approx((challenges < 0).mean(), abs=0.05)


def test_base_images_never_straddle_the_split():
    groups = np.arange(400) // 4
    network = DecisionNetwork(seed=3)
    held_out = network._split(np.repeat([0.0, 1.0], 400), groups, groups)
    both = np.concatenate([groups, groups])
    assert not {*both[held_out]} & {*both[~held_out]}
    assert held_out.mean() == pytest.approx(0.2, abs=0.01)


def test_one_seed_gives_one_network_and_leaves_the_random_state_alone():
    known, challenges = problem(100, 0, 1), problem(100, 2, 2)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not change
    scores = [DecisionNetwork(seed=seed, epochs=3).fit(known, challenges).score(known) for seed in (0, 0, 1)]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert scores[0].dtype == np.float64


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_trains_where_gradients_are_off(mode):
    known, challenges = problem(100, 0, 1), problem(100, 6, 2)
    expected = DecisionNetwork(epochs=3).fit(known, challenges).score(known)
    with mode():
        assert np.array_equal(DecisionNetwork(epochs=3).fit(known, challenges).score(known), expected)


def test_the_number_of_threads_does_not_matter_and_is_left_alone():
    known, challenges = problem(100, 0, 1), problem(100, 2, 2)
    threads, states = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            states.append(DecisionNetwork(epochs=3).fit(known, challenges).state())
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_constant_columns_and_zeros_do_no_harm():
    known, challenges = problem(200, 0, 1), problem(200, 8, 2)
    known[:20, 0] = challenges[:20, 1] = 0
    wider = [np.hstack([values, np.zeros((200, 1))]) for values in (known, challenges)]
    network = DecisionNetwork().fit(*wider)
    assert auroc(network, *wider) > 0.95
    assert np.isfinite(network.score(wider[0] * 1e200)).all()


def test_state_gives_back_the_same_scores():
    network = DecisionNetwork(hidden=16, epochs=5).fit(problem(100, 0, 1), problem(100, 2, 2))
    again = DecisionNetwork.restore(network.state())
    assert np.array_equal(again.score(problem(50, 1, 3)), network.score(problem(50, 1, 3)))
    assert again.validation_auroc == network.validation_auroc


def test_what_cannot_be_used_is_refused():
    with pytest.raises(NotFittedError, match="call fit first"):
        DecisionNetwork().score(problem(3, 0, 1))
    with pytest.raises(NotFittedError, match="nothing to save"):
        DecisionNetwork().state()
    with pytest.raises(InputError, match=r"9 known image\(s\) and 50 challenge\(s\) are too few"):
        DecisionNetwork().fit(problem(9, 0, 1), problem(50, 0, 2))
    with pytest.raises(InputError, match=r"shape \(50, 4\); expected \(N, 5\)"):
        DecisionNetwork().fit(problem(50, 0, 1), problem(50, 0, 2, columns=4))
    with pytest.raises(InputError, match="one number for each image"):
        DecisionNetwork().fit(problem(50, 0, 1), problem(50, 0, 2), known_groups=np.arange(7))
    with pytest.raises(InputError, match="left 0 known and 0 challenging images in the training part"):
        DecisionNetwork().fit(problem(50, 0, 1), problem(50, 0, 2), np.zeros(50), np.zeros(50))
