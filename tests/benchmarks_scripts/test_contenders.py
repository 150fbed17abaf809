"""Every contender reads what the plain loop reads, and a wrong reading is noticed."""

import copy

import pytest
import torch
from measuring.comparison import Settings, compare, forget
from measuring.contenders import CONTENDERS, EVERY, Expected, Run, Unavailable, largest_difference
from measuring.networks import CONSTRAINED, NETWORKS, Network, images, reconstruction_loss
from measuring.statistic import ALIGNMENTS, INNER_PRODUCTS, SQUARED_NORMS
from measuring.text import GRUClassifier, tokens

from gradiometer.anomaly import make_network
from gradiometer.gradients import Reconstruction

READERS = [name for name, contender in CONTENDERS.items() if contender.kind != "bound"]
PACKAGES = {"torchjd": "torchjd", "captum": "captum", "gradient-metrics": "gradient_metrics", "scio": "scio"}


def difference(name, network, batch=3):
    model, inputs = network.make(0, settle=False), network.draw(batch, 0)
    run = EVERY[name].prepare(network, copy.deepcopy(model), inputs)
    run.call()
    return largest_difference(run.call(), run.expected(batch))


def small(statistic, parameters=("*",)):
    """The auto-encoder of GradCon, for small images."""
    return Network(
        "auto-encoder",
        lambda: make_network("cae", 3, 12),
        images((3, 12, 12)),
        reconstruction_loss,
        Reconstruction(),
        statistic,
        parameters=parameters,
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_squared_norms_are_those_of_the_loop(name):
    pytest.importorskip(PACKAGES.get(name, "torch"))
    assert difference(name, NETWORKS["tiny"]) < 1e-4


@pytest.mark.parametrize("statistic", [INNER_PRODUCTS, ALIGNMENTS])
@pytest.mark.parametrize("name", ["instrument", "loop", "vmap"])
def test_inner_products_are_those_of_the_loop(name, statistic):
    assert difference(name, small(statistic)) < 1e-4


@pytest.mark.parametrize("name", ["pytorch-ood", "torchjd", "gradient-metrics", "scio"])
def test_contenders_without_inner_products_say_so(name):
    network = small(INNER_PRODUCTS)
    with pytest.raises(Unavailable, match="squared norms, not inner products"):
        CONTENDERS[name].prepare(network, network.make(0, settle=False), network.draw(2, 0))


@pytest.mark.parametrize("name", ["instrument", "loop", "vmap"])
def test_readers_read_the_chosen_parameters_and_bounds_work_on_all(name, monkeypatch):
    network, shapes, trained = small(ALIGNMENTS, CONSTRAINED), {}, {}
    for each in ("training-step", name):

        def prepare(network, model, inputs, each=each, original=EVERY[each]):
            run = original.prepare(network, model, inputs)

            def call():
                found = run.call()
                shapes[each] = None if found is None else found.shape
                trained[each] = sum(parameter.grad is not None for parameter in model.parameters())
                return found

            return Run(call, run.expected)

        copied = copy.copy(EVERY[each])
        copied.prepare = prepare
        monkeypatch.setitem(EVERY, each, copied)
    section = compare(network, 3, Settings(("training-step", name), repeats=1, slow_repeats=1), lambda text: None)
    assert [row["reason"] for row in section["rows"]] == ["", ""]
    assert section["rows"][1]["difference"] < 1e-4
    assert shapes[name] == (3, 4, 2)
    assert trained["training-step"] == 16


def test_tokens_are_read_like_images():
    assert difference("instrument", Network("texts", lambda: GRUClassifier(3, 8), tokens), batch=2) < 1e-4


@pytest.mark.parametrize("name", ["contrast", "class-grams"])
def test_every_class_in_turn_is_that_of_the_loop(name):
    assert difference(name, NETWORKS["tiny"]) < 1e-4


def test_a_statistic_of_gradients_by_hand():
    gradients = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[[2.0]], [[-1.0]]])]
    reference = [torch.tensor([1.0, -1.0]), torch.tensor([[3.0]])]
    assert SQUARED_NORMS.of(gradients, reference).tolist() == [[5.0, 4.0], [25.0, 1.0]]
    assert INNER_PRODUCTS.of(gradients, reference).tolist() == [[-1.0, 6.0], [-1.0, -3.0]]
    assert ALIGNMENTS.of(gradients, reference)[0].tolist() == [[-1.0, 5.0], [6.0, 4.0]]
    # An inner product is compared with what it could be at most.
    torch.testing.assert_close(INNER_PRODUCTS.sizes(gradients, reference)[0, 0], torch.tensor(10.0).sqrt())


def test_the_largest_difference_is_found():
    expected = Expected(torch.tensor([[1.0, 4.0]]), torch.tensor([[1.0, 4.0]]))
    assert largest_difference(torch.tensor([[1.0, 4.4], [0.0, 0.0]]), expected) == pytest.approx(0.1)
    assert largest_difference(torch.tensor([6.0]), expected) == pytest.approx(0.2)


def test_what_takes_too_long_is_timed_once():
    settings = Settings(("training-step", "loop"), repeats=4, slow_repeats=3, patience=0.0)
    section = compare(NETWORKS["tiny"], 3, settings, lambda text: None)
    step, loop = section["rows"]
    assert (len(step["seconds"]), step["single"]) == (3, False)
    assert (len(loop["seconds"]), loop["single"]) == (1, True)


def test_what_calls_leave_on_the_parameters_is_dropped():
    model = torch.nn.Linear(2, 2)
    model.weight.grad, model.weight.sample_grad = torch.ones(2, 2), torch.ones(5, 2, 2)
    forget(model)
    assert model.weight.grad is None
    assert model.weight.sample_grad is None
