"""The contract of evolution by ask and tell: ``ask`` returns a population, ``tell`` takes a number per individual."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from engram.testing.promises import (
    BadInput,
    assert_refused,
    assert_seeded,
    assert_states_are_refused,
    check_maker,
    copy_into,
    default_dtype,
    hold,
    in_threads,
    same,
    stored,
)

Build = Callable[..., Any]

_GENERATIONS = 150


def check_evolution(evolution_class: Callable[..., Any], **options: Any) -> None:
    """Check an evolutionary optimiser against its contract.

    ``ask()`` returns, for each parameter, the values of the whole population, and moves nothing; ``tell(fitness)`` or
    ``tell(loss=...)`` moves the parameters in place. It lowers a loss, draws only from its generator, resumes bit for
    bit from its ``state_dict``, also between ``ask`` and ``tell``, refuses a state of another form by an error that
    names it, ranks individuals whose fitness is not finite last, and refuses bad input. Torch's default dtype and other
    threads make no difference.

    Args:
        evolution_class: The class; called as ``evolution_class(params, sigma=..., generator=..., **options)``.
        **options: Further options of its constructor, to check a variant.

    Examples:
        >>> from engram.optim import CMAES
        >>> check_evolution(CMAES)
    """
    check_maker("evolution_class", evolution_class)

    def build(params: list[Tensor], generator: torch.Generator | None = None, sigma: float = 0.1) -> Any:
        generator = generator or torch.Generator().manual_seed(0)
        return evolution_class(params, sigma=sigma, generator=generator, **options)

    checks = [
        _asks_for_populations,
        _moves_in_place,
        _goes_downhill,
        _draws_from_its_generator,
        _maximises_fitness,
        _resumes_exactly,
        _refuses_other_states,
        _takes_any_default_dtype,
        _is_the_same_in_eight_threads,
        _ranks_nonfinite_fitness_last,
        _refuses_bad_input,
    ]
    hold(evolution_class, checks, build)


def _start() -> list[Tensor]:
    """Parameters far from the optimum, which is at -1 and at 2."""
    return [torch.zeros(3, 2), torch.zeros(4, requires_grad=True)]


def _losses(population: list[Tensor]) -> Tensor:
    matrix, vector = population
    return (matrix + 1).square().sum((1, 2)) + (vector - 2).square().sum(1)


def _evolve(evolution: Any, generations: int) -> None:
    for _ in range(generations):
        evolution.tell(loss=_losses(evolution.ask()))


def _asks_for_populations(build: Build) -> None:
    """``ask`` returns, for each parameter, the values of all individuals, and leaves the parameters as they are."""
    params = _start()
    evolution = build(params)
    population = evolution.ask()
    shapes = [tuple(stack.shape) for stack in population]
    expected = [(evolution.population_size, *param.shape) for param in params]
    assert shapes == expected, f"asked for {expected}, got {shapes}"
    assert all(stack.dtype == param.dtype for stack, param in zip(population, params, strict=True)), "another dtype"
    assert same([param.detach() for param in params], [p.detach() for p in _start()]), "asking moved a parameter"
    assert not any(stack.requires_grad for stack in population), "the population requires a gradient"
    assert not torch.equal(population[0][0], population[0][1]), "two individuals are alike"
    assert not same(population, evolution.ask()), "asked again, it gives the same population"


def _moves_in_place(build: Build) -> None:
    """``tell`` moves the parameters themselves, and leaves no gradient behind."""
    params = _start()
    _evolve(evolution := build(params), 3)
    for param, before in zip(params, _start(), strict=True):
        assert not torch.equal(param, before), "a parameter did not move"
        assert param.grad is None or not param.grad.any(), "a gradient was left"
    assert evolution.generation == 3, f"after 3 generations it counts {evolution.generation}"


def _goes_downhill(build: Build) -> None:
    """A sum of squares falls to a third."""
    params = _start()
    _evolve(build(params), _GENERATIONS)
    before, after = (float(_losses([param.detach()[None] for param in point])) for point in (_start(), params))
    assert after < before / 3, f"the loss went from {before} to {after}"


def _draws_from_its_generator(build: Build) -> None:
    """The generator alone determines the population, and how the parameters move."""

    def evolved(generator: torch.Generator) -> list[Tensor]:
        params = _start()
        evolution = build(params, generator)
        _evolve(evolution, 2)
        return [*(param.detach() for param in params), *evolution.ask()]

    assert_seeded(evolved)


def _maximises_fitness(build: Build) -> None:
    """``tell(fitness)`` is the same as ``tell(loss=-fitness)``."""
    descended, climbed = _start(), _start()
    _evolve(build(descended), 3)
    climbing = build(climbed)
    for _ in range(3):
        climbing.tell(-_losses(climbing.ask()))
    assert same([p.detach() for p in descended], [p.detach() for p in climbed]), "the parameters differ"


def _resumes_exactly(build: Build) -> None:
    """An optimiser that loads the ``state_dict`` from a file continues bit for bit, also after ``ask``."""
    for mid_generation in (False, True):
        params = _start()
        evolution = build(params)
        _evolve(evolution, 5)
        losses = _losses(evolution.ask()) if mid_generation else None
        state, resumed = stored(evolution.state_dict()), _start()
        copy_into(resumed, params)
        restored = build(resumed, torch.Generator().manual_seed(9))
        restored.load_state_dict(state)
        for optimizer in (evolution, restored):
            if losses is not None:
                optimizer.tell(loss=losses)
            _evolve(optimizer, 5)
        moment = "between ask and tell" if mid_generation else "between generations"
        assert same([p.detach() for p in params], [p.detach() for p in resumed]), f"{moment} the continuation differs"
        assert restored.generation == evolution.generation, f"{moment} it forgot the number of the generation"


def _refuses_other_states(build: Build) -> None:
    """A state of another form is refused, by an error that names the entry, and changes nothing."""
    for mid_generation in (False, True):
        evolution, other = build(_start()), build([torch.zeros(3, 3)])
        _evolve(evolution, 2)
        if mid_generation:
            evolution.ask(), other.ask()
        assert_states_are_refused(evolution, other.state_dict() | ({} if mid_generation else {"asked": 3}))


def _takes_any_default_dtype(build: Build) -> None:
    """With float64 as torch's default dtype, float32 parameters evolve unchanged."""
    usual, params = _start(), _start()
    _evolve(build(usual), 3)
    with default_dtype(torch.float64):
        _evolve(build(params), 3)
    assert same([p.detach() for p in usual], [p.detach() for p in params]), "the parameters differ"


def _is_the_same_in_eight_threads(build: Build) -> None:
    """Eight optimisers that evolve at once, each in its own thread, give the same result as a single one."""

    def evolved() -> list[Tensor]:
        params = _start()
        _evolve(build(params), 3)
        return [p.detach() for p in params]

    expected = evolved()
    assert all(same(expected, params) for params in in_threads(evolved)), "threads differ"


def _ranks_nonfinite_fitness_last(build: Build) -> None:
    """A fitness that is not finite counts as the worst finite one, with a warning that names the individual."""
    for bad in (math.nan, -math.inf, math.inf):
        params, twins = _start(), _start()
        for evolution, replaced in ((build(params), False), (build(twins), True)):
            fitness = -_losses(evolution.ask())
            fitness[2] = fitness[torch.arange(len(fitness)) != 2].min() if replaced else bad
            with warnings.catch_warnings(record=True) as warnings_raised:
                warnings.simplefilter("always")
                evolution.tell(fitness)
            messages = [str(w.message) for w in warnings_raised if issubclass(w.category, RuntimeWarning)]
            if not replaced:
                assert any(re.search(r"fitness.*\(2\)", text) for text in messages), f"no warning names 2: {messages}"
        assert same([p.detach() for p in params], [p.detach() for p in twins]), f"{bad} does not count as the worst"


def _refuses_bad_input(build: Build) -> None:
    """Bad input gets a clear error."""
    evolution = build(_start())
    size = evolution.population_size

    def tell_with(*args: Any, **kwargs: Any) -> Callable[[], Any]:
        return lambda: (evolution.ask(), evolution.tell(*args, **kwargs))

    bad: list[BadInput] = [
        (lambda: build([]), ValueError, "params"),
        (lambda: build([3.0]), TypeError, "params"),
        (lambda: build([torch.zeros(2, dtype=torch.long)]), ValueError, r"params\[0\]"),
        (lambda: build(_start(), sigma=0.0), ValueError, "sigma = 0.0"),
        (lambda: build(_start(), sigma=-0.125), ValueError, "sigma = -0.125"),
        (lambda: build(_start()).tell(torch.zeros(size)), RuntimeError, "ask"),
        (tell_with(torch.zeros(size + 1)), ValueError, f"fitness.*{size + 1}.*{size}"),
        (tell_with(torch.full((size,), math.nan)), ValueError, "fitness.*finite"),
        (tell_with(), TypeError, "fitness"),
        (tell_with(torch.zeros(size), loss=torch.zeros(size)), TypeError, "loss"),
    ]
    assert_refused(bad)
