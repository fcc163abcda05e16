import math
import os
import sys
import types
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.optim import CMAES, AntitheticES, evaluate, shaped
from engram.optim import population as population_module
from engram.plasticity import Hebb, PlasticRNN


def sgd(params):
    return torch.optim.SGD(params, lr=1.0)


def gradient(population_size, sigma, loss_of, theta=None, **options):
    """The gradient that a generation estimates: with SGD and learning rate 1, what the parameters moved by."""
    params = torch.zeros(20) if theta is None else theta.clone()
    before = params.clone()
    generator = torch.Generator().manual_seed(0)
    es = AntitheticES([params], sigma, sgd, population_size=population_size, generator=generator, **options)
    (population,) = es.ask()
    es.tell(loss=loss_of(population))
    return before - params


def test_of_a_linear_loss_the_gradient_is_its_coefficients():
    slope = torch.randn(20, generator=torch.Generator().manual_seed(1))
    estimate = gradient(20_000, 0.03, lambda population: population @ slope)
    assert torch.cosine_similarity(estimate, slope, dim=0) > 0.995
    torch.testing.assert_close(estimate, slope, atol=0.06, rtol=0)


def test_of_a_quadratic_loss_the_gradient_is_exact_in_expectation():
    theta = torch.randn(20, generator=torch.Generator().manual_seed(2))
    estimate = gradient(20_000, 0.1, lambda population: population.square().sum(1) / 2, theta)
    torch.testing.assert_close(estimate, theta, atol=0.1, rtol=0)


@given(st.floats(-1e6, 1e6), st.sampled_from([None, "rank", "zscore"]))
def test_a_constant_loss_gives_no_gradient_at_all(constant, shaping):
    estimate = gradient(10, 0.03, lambda population: torch.full((10,), constant), shaping=shaping)
    assert not estimate.any()


@pytest.mark.parametrize("shaping", ["rank", "zscore"])
def test_the_estimate_is_made_of_shaped_losses(shaping):
    theta, shares = torch.arange(20.0), torch.linspace(0, 1, 20)

    def loss_of(population):
        return (population @ shares).square()

    estimate = gradient(10, 0.1, lambda population: shaped(loss_of(population), shaping), theta)
    torch.testing.assert_close(gradient(10, 0.1, loss_of, theta, shaping=shaping), estimate)


def test_the_estimate_is_the_published_sum():
    params = torch.zeros(3)
    es = AntitheticES([params], 0.5, sgd, population_size=6, generator=torch.Generator().manual_seed(3))
    (population,) = es.ask()
    loss = torch.tensor([1.0, 2.0, 3.0, -1.0, 0.5, 7.0], dtype=torch.float64)
    es.tell(loss=loss)
    expected = (population.double() * loss[:, None]).sum(0) / (6 * 0.5**2)
    torch.testing.assert_close(-params.double(), expected, rtol=1e-6, atol=1e-6)


def test_pairs_are_antithetic_and_the_first_one_can_be_the_mean_itself():
    params = torch.ones(5)
    es = AntitheticES([params], 0.1, population_size=8, include_mean=True)
    (population,) = es.ask()
    torch.testing.assert_close(population[:4] + population[4:], torch.full((4, 5), 2.0))
    assert torch.equal(population[0], params)
    assert torch.equal(population[4], params)
    assert (population[1:4] != population[5:]).all()


def test_mutations_have_the_dtype_of_their_parameters():
    params = [torch.zeros(2, dtype=torch.float64), torch.zeros(3)]
    assert [population.dtype for population in AntitheticES(params, population_size=4).ask()] == [
        torch.float64,
        torch.float32,
    ]


def test_either_fitness_or_loss_is_told():
    es = AntitheticES([torch.zeros(2)], population_size=4)
    es.ask()
    for arguments in ({}, {"fitness": [1.0] * 4, "loss": [1.0] * 4}):
        with pytest.raises(TypeError, match="expected either fitness, to be maximised, or loss, to be minimised"):
            es.tell(**arguments)


def test_weight_decay_is_added_to_the_gradient_as_published():
    params = torch.full((2,), 3.0)
    es = AntitheticES([params], population_size=4)
    group = es.optimizer.param_groups[0]
    assert type(es.optimizer) is torch.optim.Adam
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.01, (0.9, 0.999), 1e-8, 3e-4)
    assert not group["decoupled_weight_decay"]
    es.ask()
    es.tell(loss=torch.zeros(4))  # no gradient but that of the decay, which Adam scales to its learning rate
    torch.testing.assert_close(params, torch.full((2,), 2.99), atol=1e-5, rtol=0)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_ranks_are_centred_and_depend_on_the_order_only(losses):
    values = torch.tensor(losses, dtype=torch.float64)
    ranks = shaped(values, "rank")
    assert abs(float(ranks.sum())) < 1e-9
    assert ranks.min() >= -0.5
    assert ranks.max() <= 0.5
    order = values.argsort()
    assert (ranks[order].diff() >= 0).all()
    assert (ranks[order].diff()[values[order].diff() == 0] == 0).all()
    torch.testing.assert_close(
        shaped(3 * values.round(decimals=3) + 7, "rank"), shaped(values.round(decimals=3), "rank")
    )


def test_zscores():
    scores = shaped(torch.tensor([1.0, 5.0]), "zscore")
    assert scores.tolist() == [-1.0, 1.0]
    assert shaped(torch.tensor([1.0, 3.0]), None).tolist() == [1.0, 3.0]


def test_one_bad_fitness_poisons_nothing():
    params = torch.zeros(4)
    es = AntitheticES([params], 0.1, population_size=6)
    es.ask()
    message = r"fitness is not finite for 2 of 6 individuals \(1, 4\): ranked last"
    with pytest.warns(RuntimeWarning, match=message):
        es.tell([1.0, math.nan, 2.0, 3.0, -math.inf, 0.0])
    assert params.isfinite().all()


@pytest.mark.parametrize("make", [CMAES, AntitheticES])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("form", [list, np.array, lambda loss: np.ma.masked_where([True, True, False, False], loss)])
def test_the_best_is_never_one_whose_evaluation_failed(make, bad, form):
    for lowest in (0.5, -math.pi):
        es = make([torch.zeros(3)], 0.3, population_size=4)
        (population,) = es.ask()
        with pytest.warns(RuntimeWarning, match=r"is not finite for 2 of 4 individuals \(0, 1\)"):
            es.tell(loss=form([bad, bad, lowest, lowest]))
        assert torch.equal(es.best[0], population[2])
        assert es.best_loss == lowest
        es.ask()
        with pytest.warns(RuntimeWarning, match="ranked last"):
            es.tell(loss=form([-9e9, bad, 1.0, 2.0]) if form is not list else [bad, bad, 1.0, 2.0])
        assert es.best_loss == (-9e9 if form is np.array else lowest)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"population_size": 7}, ValueError, "population_size = 7: expected an even number of at least 4"),
        ({"population_size": 2}, ValueError, "population_size = 2: expected an even number of at least 4"),
        (
            {"optimizer": torch.optim.SGD([torch.zeros(2)])},
            ValueError,
            "optimizer: expected an optimiser of the same parameters",
        ),
    ],
)
def test_bad_arguments_of_the_strategy_are_named(options, error, message):
    with pytest.raises(error, match=message):
        AntitheticES([torch.zeros(3)], **options)


@pytest.mark.parametrize(
    ("params", "options", "message"),
    [
        (torch.zeros(3000), {}, "params hold 3000 numbers: expected at most 2000, unless diagonal"),
        (torch.zeros(2001), {}, "params hold 2001 numbers: expected at most 2000, unless diagonal"),
        (torch.zeros(0), {}, "params hold 0 numbers: expected at least 1"),
        (torch.ones(3, requires_grad=True) * 2, {}, r"params\[0\]: expected a floating-point leaf tensor"),
    ],
)
def test_bad_arguments_of_cma_es_are_named(params, options, message):
    with pytest.raises(ValueError, match=message):
        CMAES([params], **options)


STRATEGIES = {
    "cma-es": CMAES,
    "diagonal": partial(CMAES, diagonal=True),
    "antithetic": partial(AntitheticES, optimizer=partial(torch.optim.SGD, lr=0.1), population_size=10),
}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("shape", [(), (1,)], ids=["no axis", "one axis"])
def test_a_single_number_is_optimised(name, shape):
    params = [torch.full(shape, 5.0)]
    es = STRATEGIES[name](params, 0.3)
    for _ in range(80):
        (population,) = es.ask()
        assert population.shape == (es.population_size, *shape)
        es.tell(loss=(population.flatten() - 2).square())
    assert float(params[0]) == pytest.approx(2, abs=1e-2)


@pytest.mark.parametrize("name", STRATEGIES)
def test_axes_of_one_make_no_difference_and_parameters_may_have_none(name):
    few, many = [torch.tensor(5.0), torch.ones(2, 3)], [torch.full((1, 1), 5.0), torch.ones(6, 1)]
    for params in (few, many):
        es = STRATEGIES[name](params, 0.1)
        for _ in range(3):
            number, matrix = es.ask()
            es.tell(loss=(number.flatten() - 1).square() + matrix.flatten(1).square().sum(1))
    for param, other in zip(few, many, strict=True):
        assert torch.equal(param.flatten(), other.flatten())
    assert float(few[0]) < 5


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_plastic_network_whose_rate_is_a_number_evolves(name):
    net = PlasticRNN(2, 3, rule=Hebb())
    es = STRATEGIES[name](net.parameters(), 0.05)
    before = [param.detach().clone() for param in net.parameters()]
    es.tell(loss=sum(stack.reshape(len(stack), -1).square().sum(1) for stack in es.ask()))
    assert not any(torch.equal(param, start) for param, start in zip(net.parameters(), before, strict=True))


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("by", ["loss", "fitness"])
def test_the_best_individual_is_kept(name, by):
    params = [torch.tensor(3.0), torch.ones(2, 3)]
    es, seen = STRATEGIES[name](params, 0.5, generator=torch.Generator().manual_seed(3)), []
    assert es.best is None
    assert es.best_loss == math.inf
    for generation in range(6):
        population = es.ask()
        losses = population[0].square() + population[1].square().sum((1, 2)) + (0.5 * generation) ** 2
        seen += [(float(loss), [stack[row].clone() for stack in population]) for row, loss in enumerate(losses)]
        es.tell(**{by: losses if by == "loss" else -losses})
        lowest, best = min(seen, key=lambda pair: pair[0])
        assert es.best_loss == lowest
        assert all(torch.equal(kept, tensor) for kept, tensor in zip(es.best, best, strict=True))
    assert best is not seen[-1][1]
    loaded = STRATEGIES[name]([torch.tensor(0.0), torch.zeros(2, 3)], 0.5)
    loaded.load_state_dict(es.state_dict())
    assert loaded.best_loss == es.best_loss
    assert all(torch.equal(kept, tensor) for kept, tensor in zip(loaded.best, es.best, strict=True))
    es.best[1].zero_()
    assert loaded.best[1].any(), "the loaded state shares memory with its source"


@pytest.mark.parametrize("diagonal", [False, True])
def test_cma_es_begins_around_the_parameters_with_its_step_size(diagonal):
    (population,) = CMAES([torch.full((2,), 5.0)], 0.01, population_size=400, diagonal=diagonal).ask()
    torch.testing.assert_close(population.mean(0), torch.full((2,), 5.0), atol=0.003, rtol=0)
    torch.testing.assert_close(population.std(0), torch.full((2,), 0.01), rtol=0.2, atol=0)


def test_a_loaded_state_of_cma_es_sets_the_parameters_and_does_not_change_with_its_source():
    params, others = torch.zeros(3), torch.zeros(3)
    es = CMAES([params], 0.1)
    es.tell(loss=es.ask()[0].sum(1))
    state, before = es.state_dict(), params.clone()
    es.tell(loss=es.ask()[0].sum(1))
    loaded = CMAES([others])
    loaded.load_state_dict(state)
    assert torch.equal(others, before)
    loaded.tell(loss=loaded.ask()[0].sum(1))
    assert torch.equal(others, params)


@pytest.mark.parametrize("make", [CMAES, partial(CMAES, diagonal=True), AntitheticES])
def test_a_saved_state_is_loaded_without_unpickling(make, tmp_path):
    params, others = torch.zeros(3), torch.zeros(3)
    es, loaded = make([params]), make([others])
    for _ in range(2):
        es.tell(loss=es.ask()[0].square().sum(1))
    es.ask()  # a pending population is part of the state
    torch.save((es.state_dict(), params), tmp_path / "state.pt")
    state, saved_params = torch.load(tmp_path / "state.pt")
    others.copy_(saved_params)
    loaded.load_state_dict(state)
    losses = torch.arange(float(es.population_size))
    for strategy in (es, loaded):
        strategy.tell(loss=losses)
    assert torch.equal(params, others)
    assert torch.equal(es.ask()[0], loaded.ask()[0])


@pytest.mark.parametrize("make", [CMAES, AntitheticES])
def test_a_population_is_told_once(make):
    es = make([torch.zeros(3)], population_size=4)
    es.ask()
    es.tell(loss=[1.0, 2.0, 3.0, 4.0])
    with pytest.raises(RuntimeError, match="call ask before"):
        es.tell(loss=[1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize("diagonal", [False, True])
def test_both_forms_of_cma_es_learn_a_badly_scaled_quadratic(diagonal):
    params = torch.ones(6)
    scale = torch.logspace(0, 3, 6)
    es = CMAES([params], 0.5, diagonal=diagonal)
    for _ in range(150):
        (population,) = es.ask()
        es.tell(loss=(scale * population.square()).sum(1))
    assert float((scale * params.square()).sum()) < 1e-3


def squares(numbers):
    return numbers.square().sum(1)


def dying(numbers):
    if (numbers[:, 0] == 2).any():
        os._exit(1)
    return numbers[:, 0]


# As if defined in a notebook, from where functions reach the workers whole: they cannot import this file.
squares.__module__ = dying.__module__ = "__main__"


@pytest.mark.parametrize("diagonal", [False, True])
def test_the_state_of_cma_es_holds_nothing_that_memory_happened_to_hold(diagonal, monkeypatch):
    monkeypatch.setattr(np, "empty", lambda shape, *rest, **more: np.full(shape, np.nan))
    state = CMAES([torch.zeros(3)], diagonal=diagonal).state_dict()["cma"]
    arrays = [value for value in state.values() if isinstance(value, torch.Tensor)]
    assert arrays
    assert all(array.isfinite().all() for array in arrays)


def test_a_population_is_evaluated_alike_in_any_number_of_parts():
    population = [torch.arange(14.0).reshape(7, 2)]
    alone = evaluate(population, squares)
    assert torch.equal(alone, population[0].square().sum(1).double())
    for parts in (1, 3, 7, 20):
        assert torch.equal(evaluate(population, squares, parts=parts), alone)
    assert torch.equal(evaluate(population, squares, n_jobs=2), alone)
    sizes = []
    evaluate(population, lambda numbers: sizes.append(len(numbers)) or squares(numbers), parts=3)
    assert sizes == [2, 2, 3]


def test_a_worker_that_dies_costs_its_individuals_alone():
    with pytest.warns(RuntimeWarning, match="a worker died twice on individuals 1 to 2: their fitness is NaN"):
        fitness = evaluate([torch.arange(3.0)[:, None]], dying, n_jobs=2)
    np.testing.assert_equal(fitness.numpy(), [0, np.nan, np.nan])


def test_a_function_that_workers_cannot_import_is_named():
    def nowhere(numbers):
        return numbers[:, 0]

    nowhere.__module__, nowhere.__qualname__ = "no_such_module", "nowhere"
    module = types.ModuleType("no_such_module")
    module.nowhere = nowhere
    sys.modules["no_such_module"] = module
    try:
        with pytest.raises(ValueError, match=r"nowhere.*: expected a function that a worker process can import"):
            evaluate([torch.arange(4.0)[:, None]], nowhere, n_jobs=2)
    finally:
        del sys.modules["no_such_module"]


@pytest.mark.parametrize(
    ("population", "message"),
    [
        ([torch.zeros(3, 1), torch.zeros(2, 1)], r"\[2, 3\] individuals"),
        ([torch.zeros(3, 2, 2)], r"the function returned a shape of \(3, 2\): expected \(3,\)"),
    ],
)
def test_bad_populations_are_named(population, message):
    with pytest.raises(ValueError, match=message):
        evaluate(population, squares)


def test_ray_is_started_and_given_the_parts(monkeypatch):
    started = []

    def parallel_map(function, pieces, *, workers, backend, attempts):
        assert (started, len(pieces), workers, backend, attempts) == ([3], 3, 3, "ray", 2)
        return [function(piece) for piece in pieces]

    monkeypatch.setattr(population_module, "check_backend", lambda backend: None)
    monkeypatch.setattr(population_module.ray_tasks, "connect", lambda *, cpus: started.append(cpus))
    monkeypatch.setattr(population_module, "parallel_map", parallel_map)
    fitness = evaluate([torch.arange(10.0).reshape(5, 2)], squares, n_jobs=3, backend="ray")
    assert fitness.tolist() == [1, 13, 41, 85, 145]


@pytest.mark.soak
def test_a_ray_cluster_evaluates_the_same():
    ray = pytest.importorskip("ray")
    population = [torch.arange(8.0).reshape(4, 2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        warnings.filterwarnings("error", message="a worker died")
        for _ in range(2):  # the second cluster is another
            try:
                for _ in range(2):
                    assert evaluate(population, row_sums, n_jobs=2, backend="ray").tolist() == [1, 5, 9, 13]
                with pytest.raises(ValueError, match="the function returned"):  # no death, but an error of the function
                    evaluate(population, torch.Tensor.clone, n_jobs=2, backend="ray")
            finally:
                ray.shutdown()


def row_sums(numbers):
    return numbers.sum(1)


def test_a_state_of_another_population_size_is_refused():
    theirs, ours = (CMAES([torch.zeros(3)], population_size=size) for size in (10, 8))
    with pytest.raises(ValueError, match="expected population_size = 8"):
        ours.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize(("bad", "listed"), [(10, "8, 9"), (11, "8, 9, ...")])
def test_ten_bad_individuals_are_listed_and_a_lone_tensor_is_enough(bad, listed):
    params = torch.zeros(2)
    es = AntitheticES(params, population_size=12, optimizer=sgd)
    assert es.params[0] is params
    es.ask()
    loss = torch.arange(12.0)
    loss[:bad] = math.inf
    with pytest.warns(RuntimeWarning, match=rf"loss is not finite for {bad} of 12 individuals \(0, .*{listed}\): "):
        es.tell(loss=loss)
    assert es.generation == 1


@pytest.mark.parametrize("make", [CMAES, AntitheticES])
def test_a_tensor_that_is_given_twice_is_refused(make):
    params = [torch.zeros(3), torch.zeros(2)]
    with pytest.raises(ValueError, match=r"params\[2\] is the same tensor as params\[1\]: expected each once"):
        make([*params, params[1]])


def test_individuals_that_were_written_into_the_parameters_are_noticed():
    params = [torch.zeros(3), torch.zeros(2)]
    es = AntitheticES(params, population_size=4)
    population = es.ask()
    params[1].copy_(population[1][-1])
    with pytest.raises(RuntimeError, match=r"params\[1\] has changed since ask"):
        es.tell(loss=torch.arange(4.0))
    assert es.best is None
    params[1].zero_()
    es.tell(loss=torch.arange(4.0))
    state = es.state_dict()
    params[0].add_(1)  # between generations, and where parameters are loaded apart from a pending population
    es.ask()
    es.load_state_dict(state | {"asked": [torch.ones(2, 3), torch.ones(2, 2)]})
    params[0].sub_(1)
    es.tell(loss=torch.arange(4.0))


@pytest.mark.parametrize("shaping", [None, "rank", "zscore"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_that_differ_by_rounding_move_nothing(shaping, dtype):
    params = torch.zeros(3)
    es = AntitheticES([params], 0.5, lambda ps: torch.optim.Adam(ps, lr=1.0), population_size=6, shaping=shaping)
    rounded = torch.tensor(0.7, dtype=dtype) * (
        1 + torch.finfo(dtype).eps * torch.tensor([0, 1, 1, 0, 1, 0], dtype=dtype)
    )
    assert len(rounded.unique()) == 2
    for loss in (rounded, rounded.tolist(), -rounded.numpy()):
        es.ask()
        es.tell(loss=loss)
    assert not params.any()
    assert shaped(torch.tensor([0.3, 0.1 + 0.2, 0.2], dtype=torch.float64), "rank").tolist() == [0.25, 0.25, -0.5]


def test_the_order_of_losses_that_differ_by_rounding_ranks_nobody():
    means = []
    for loss in ([0.7] * 6, [0.7 * (1 + k * 2**-52) for k in (3, 1, 0, 2, 1, 3)]):
        params = torch.zeros(3)
        es = CMAES([params], 0.5, population_size=6)
        es.ask()
        es.tell(loss=loss)
        means.append(params)
    assert torch.equal(*means)


def test_numbers_in_lists_are_not_rounded():
    es = AntitheticES([torch.zeros(3)], 0.5, population_size=4)
    es.ask()
    es.tell(loss=[1.0, 1.0 - 1e-12, 1.0, 1.0])
    assert es.best_loss == 1.0 - 1e-12
