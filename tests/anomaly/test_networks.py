"""The published networks, and the same family for other images."""

from __future__ import annotations

import pytest
import torch

from gradiometer.anomaly import AutoEncoder, VariationalAutoEncoder, make_network
from gradiometer.errors import InputError


@pytest.mark.parametrize(
    ("kind", "channels", "parameters"),
    [("cae", 1, 230_721), ("cae", 3, 232_771), ("vae", 1, 1_227_777), ("vae", 3, 1_229_827)],
)
def test_the_parameters_are_as_many_as_published(kind: str, channels: int, parameters: int) -> None:
    network = make_network(kind, channels, 28, seed=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_the_constrained_tensors_are_those_of_the_release() -> None:
    named = dict(make_network("cae", 3, 28, seed=0).named_parameters())
    shapes = [tuple(value.shape) for name, value in named.items() if name.startswith("decoder") and "weight" in name]
    assert shapes == [(64, 64, 4, 4), (64, 32, 4, 4), (32, 32, 4, 4), (32, 3, 4, 4)]


def test_every_stage_has_the_published_size() -> None:
    network = AutoEncoder(3, 28)
    x = torch.rand(1, 3, 28, 28)
    sizes = []
    for layer in [*network.encoder, *network.decoder]:
        x = layer(x)
        if hasattr(layer, "weight"):
            sizes.append(tuple(x.shape[1:]))
    assert sizes == [
        (32, 15, 15), (32, 8, 8), (64, 5, 5), (64, 3, 3), (64, 4, 4), (32, 8, 8), (32, 14, 14), (3, 28, 28)
    ]  # fmt: skip


@pytest.mark.parametrize("side", [*range(4, 40), 64, 97, 128])
def test_images_of_any_size_come_back_at_that_size(side: int) -> None:
    network = AutoEncoder(1, (side, side + 3))
    assert network(torch.rand(1, 1, side, side + 3)).shape == (1, 1, side, side + 3)
    assert network.latent == tuple(network.encode(torch.rand(1, 1, side, side + 3)).shape[1:])


def test_a_variational_network_draws_in_train_mode_only() -> None:
    network = VariationalAutoEncoder(1, 8)
    x = torch.rand(2, 1, 8, 8)
    first, again = (network.passed(x, torch.Generator().manual_seed(1))[0] for _ in range(2))
    other = network.passed(x, torch.Generator().manual_seed(2))[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    network.eval()
    mean, _ = network.distribution(x)
    assert torch.equal(network(x), network.decoder(network.expand(mean).view(-1, *network.latent)))


def test_the_latent_loss_is_the_divergence_of_torch() -> None:
    network = VariationalAutoEncoder(1, 8).eval()
    x = torch.rand(3, 1, 8, 8)
    mean, log_variance = network.distribution(x)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(normal, standard).sum(1)
    torch.testing.assert_close(network.passed(x)[1], expected)


def test_a_seed_gives_the_same_weights_and_leaves_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, again = (make_network("cae", 1, 8, seed=3).state_dict() for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("kind", "channels", "size", "message"),
    [("cae", 1, 3, "4 pixels"), ("cae", 0, 28, "one channel"), ("gan", 1, 28, "choose one of cae, vae")],
)
def test_networks_that_cannot_be_are_refused(kind: str, channels: int, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_network(kind, channels, size)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(B, 1, 8, 9\)"):
        AutoEncoder(1, (8, 9))(torch.rand(1, 1, 8, 8))
