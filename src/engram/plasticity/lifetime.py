"""Whole lifetimes of node-perturbation networks: step by step, as defined, and in a numba kernel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from engram import checks
from engram.numeric.threads import available, shared
from engram.plasticity import node_perturbation as rnn
from engram.plasticity.node_perturbation import KINDS, NodePerturbationRNN, Perturbations

Matrices = Float[Tensor, "individuals post pre"]
Backend = Literal["auto", "eager", "fused"]

LOW, HIGH = 0.1, 0.9  # targets of the wrong and the right answer unit
DIVERGED = 1e3
INTERNAL_FIRST_TRIAL, INTERNAL_PENALTY = 11, 0.27
SETS_AT_ONCE = 64  # individuals whose own perturbations are in memory together


class Trials(NamedTuple):
    """The trials of individuals, one after another; nothing is reset in between.

    Attributes:
        inputs: Activity of the stimulus units at each step, for each of the four kinds of trials.
        kind, answer: The kind and the right answer, 0 or 1, of each trial.
        response: First step, and one past the last, at which the answer units are active.
        decision: Step at which the answer is read and the weights change.
        feedback: First step, and one past the last, at which loss and answer are shown.
    """

    inputs: Float[Tensor, "kinds steps 2"]
    kind: Int[Tensor, "batch trials"]
    answer: Int[Tensor, "batch trials"]
    response: tuple[int, int]
    decision: int
    feedback: tuple[int, int]


class Lifetimes(NamedTuple):
    """Results of lifetimes.

    Attributes:
        loss, correct: Squared error of each trial, L = sum over both answers of the mean over the response window, and
            whether the answer was right.
        trace: The plastic weights at the end.
        recorded: Activity of all units in the recorded trials.
        penalty: The cost of internal modulation in each trial, 0.27 times the mean square of the change of
            r_N-4 - r_N-3 from step to step; zero without internal modulation.
    """

    loss: Float[Tensor, "batch trials"]
    correct: Bool[Tensor, "batch trials"]
    trace: Matrices
    recorded: Float[Tensor, "batch recorded steps units"]
    penalty: Float[Tensor, "batch trials"]


class Individuals(NamedTuple):
    """The individuals, as both backends take them: which weights and which perturbations each of them has."""

    weight: Matrices
    alpha: Matrices
    genome: Int[Tensor, "batch"]
    noise: Perturbations
    noise_of: Int[Tensor, "batch"]
    record: tuple[int, ...]
    source_of: Int[Tensor, "units"] | None


@torch.no_grad()
def lifetimes(
    net: NodePerturbationRNN,
    trials: Trials,
    generator: torch.Generator,
    *,
    weight: Matrices | None = None,
    alpha: Matrices | None = None,
    shared_noise: bool = True,
    record: Sequence[int] = (),
    source_of: Int[Tensor, "units"] | None = None,
    backend: Backend = "auto",
) -> Lifetimes:
    """The results of running individuals through trials, from birth.

    Args:
        net: The network; all individuals share its rule and constants.
        trials: The trials of each individual.
        generator: Source of the perturbations.
        weight: Innate weights, one set for each individual or one for all; None: the network's.
        alpha: Plasticities, as many sets as ``weight`` has; None: the network's.
        shared_noise: Whether all individuals get the same perturbations, as published. This lowers the variance of
            their differences, but they are then not independent.
        record: Trials in which the activity is recorded, counted from 0, each once.
        source_of: A control: a permutation of the units; the traces of the connections from unit i read the activity
            of unit ``source_of[i]`` as presynaptic. None: that of unit i itself.
        backend: ``"eager"``: step by step, the definition. ``"fused"``: the numba kernel, with
            ``torch.get_num_threads()`` threads. ``"auto"``: the kernel if it can run.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: Arguments do not fit each other or the backend, or there are too few trials for any plasticity.
        FloatingPointError: An individual diverged; the message says which.

    Source: Miconi (ICML 2023), published code; the kernel is ours.

    Examples:
        >>> net = NodePerturbationRNN(20, generator=torch.Generator().manual_seed(0))
        >>> kind = torch.zeros(2, 40, dtype=torch.long)
        >>> trials = Trials(torch.zeros(4, 50, 2), kind, kind, (25, 35), 36, (36, 46))
        >>> lifetimes(net, trials, torch.Generator().manual_seed(0)).loss.shape
        torch.Size([2, 40])
    """
    checks.arguments()
    checks.choice("backend", backend, ("auto", "eager", "fused"))
    check_trials(trials, net.first_plastic_trial)
    batch, count = trials.kind.shape
    weights, alphas = _genomes("weight", weight, net.weight, batch), _genomes("alpha", alpha, net.alpha, batch)
    if alpha is None:
        alphas = alphas.expand(len(weights), *net.alpha.shape).contiguous()
    elif weight is None:
        weights = weights.expand(len(alphas), *net.weight.shape).contiguous()
    if len(alphas) != len(weights):
        raise ValueError(f"alpha.shape = {tuple(alphas.shape)}: expected as many as weight, {len(weights)}")
    outside = [trial for trial in record if not 0 <= trial < count]
    if outside:
        raise ValueError(f"record = {tuple(record)}: expected trials from 0 to {count - 1}")
    if len(set(record)) < len(record):  # only the last of two places would be filled
        raise ValueError(f"record = {tuple(record)}: expected each trial once")
    if source_of is not None:
        units = weights.shape[-1]
        checks.tensor("source_of", source_of, (units,), like=trials.kind)
        if sorted(source_of.tolist()) != [*range(units)]:
            raise ValueError(f"source_of = {source_of.tolist()}: expected each unit from 0 to {units - 1} once")
    live = _chosen(net, weights, backend)
    genome = torch.arange(batch) if len(weights) > 1 else torch.zeros(batch, dtype=torch.long)
    results = []
    for rows in torch.split(torch.arange(batch), batch if shared_noise else SETS_AT_ONCE):
        noise = net.perturbations(1 if shared_noise else len(rows), count, trials.inputs.shape[1], generator)
        noise_of = torch.zeros(batch, dtype=torch.long) if shared_noise else torch.arange(len(rows))
        who = Individuals(weights, alphas, genome[rows], noise, noise_of, tuple(record), source_of)
        results.append(live(net, trials._replace(kind=trials.kind[rows], answer=trials.answer[rows]), who))
    lives = Lifetimes(*map(torch.cat, zip(*results, strict=True)))
    largest_trace = lives.trace.abs().amax((1, 2))
    diverged = lives.loss.isnan().any(1) | ~(largest_trace <= DIVERGED)
    if diverged.any():
        row = int(diverged.nonzero()[0])
        values = (
            f"its largest plastic weight is {float(largest_trace[row]):g}, its last loss {float(lives.loss[row, -1]):g}"
        )
        raise FloatingPointError(f"individual {row} diverged: {values}")
    return lives


def check_trials(trials: Trials, first_plastic_trial: int) -> None:
    """Raise unless the fields of the trials fit together, and there are enough trials for plasticity."""
    checks.instance("trials", trials, Trials)
    checks.instance("trials.inputs", trials.inputs, Tensor)
    checks.has_shape("trials.inputs", trials.inputs.shape, (KINDS, "steps", 2))
    checks.instance("trials.kind", trials.kind, Tensor)
    checks.has_shape("trials.kind", trials.kind.shape, ("batch", "trials"))
    steps, (batch, count) = trials.inputs.shape[1], trials.kind.shape
    if not batch:
        raise ValueError(f"trials.kind.shape = {tuple(trials.kind.shape)}: expected at least one individual")
    if count < first_plastic_trial + 2:
        expected = f"at least {first_plastic_trial + 2}, since plasticity begins at trial {first_plastic_trial}"
        raise ValueError(f"trials.kind.shape[1] = {count} trials: expected {expected}")
    checks.instance("trials.answer", trials.answer, Tensor)
    checks.has_shape("trials.answer", trials.answer.shape, (batch, count))
    for name, value, limit in (("kind", trials.kind, KINDS), ("answer", trials.answer, 2)):
        if value.is_floating_point() or value.is_complex():
            raise ValueError(f"trials.{name}.dtype = {value.dtype}: expected integers")
        if not (int(value.min()) >= 0 and int(value.max()) < limit):
            raise ValueError(f"trials.{name}: expected numbers from 0 to {limit - 1}")
    if not 0 <= trials.response[0] < trials.response[1] <= trials.decision < steps:
        expected = f"a window that ends before the decision, step {trials.decision} of {steps}"
        raise ValueError(f"trials.response = {trials.response}: expected {expected}")
    if not trials.decision <= trials.feedback[0] <= trials.feedback[1] <= steps:
        raise ValueError(f"trials.feedback = {trials.feedback}: expected a window from {trials.decision} to {steps}")


def _genomes(name: str, genomes_given: Any, default: Tensor, batch: int) -> Tensor:
    genomes = default.detach()[None] if genomes_given is None else genomes_given
    checks.instance(name, genomes, Tensor)
    if genomes.shape[1:] != default.shape or len(genomes) not in (1, batch):
        size = ", ".join(map(str, default.shape))
        raise ValueError(f"{name}.shape = {tuple(genomes.shape)}: expected (1 or {batch}, {size})")
    return checks.tensor(name, genomes, tuple(genomes.shape), default)


def _chosen(net: NodePerturbationRNN, weight: Tensor, backend: str) -> Any:
    """The function that runs lifetimes by a backend; ValueError if the kernel is asked for and cannot."""
    requirements = {
        "hebbian": (net.hebbian, "perturbation"),
        "modulation": (net.modulation, "reward"),
        "weight.device": (weight.device.type, "cpu"),
        "weight.dtype": (weight.dtype, torch.float32),
    }
    reasons = [
        f"{name} = {value!r}: expected {expected!r}"
        for name, (value, expected) in requirements.items()
        if value != expected
    ]
    if backend == "fused" and reasons:
        raise ValueError(f"backend = 'fused' cannot run this network; {reasons[0]}")
    return _live_by_steps if backend == "eager" or reasons else _live_fused


def _live_by_steps(net: NodePerturbationRNN, trials: Trials, who: Individuals) -> Lifetimes:
    """Run lifetimes step by step, as defined."""
    weight, alpha = who.weight[who.genome], who.alpha[who.genome]
    state = net.init(len(who.genome))
    (batch, count), steps = trials.kind.shape, trials.inputs.shape[1]
    losses, penalties = weight.new_zeros(2, batch, count)
    correct = torch.zeros(batch, count, dtype=torch.bool, device=weight.device)
    recorded = weight.new_zeros(batch, len(who.record), steps, net.units)
    slot = {trial: index for index, trial in enumerate(who.record)}
    internal = net.modulation == "internal"
    for trial in range(count):
        kind, inputs = trials.kind[:, trial], trials.inputs[trials.kind[:, trial]].to(weight)
        perturbations = who.noise.dense(trial * steps, (trial + 1) * steps, net.units).to(weight)[who.noise_of]
        if net.hebbian == "cubic":
            state = state._replace(eligibility=torch.zeros_like(state.eligibility))
        answers, signals = [], []
        feedback: tuple[Tensor, ...] = ()
        for k in range(steps):
            answering, clamp = trials.response[0] <= k < trials.response[1], net.clamped(inputs[:, k])
            options = {"weight": weight, "alpha": alpha, "source_of": who.source_of}
            state = net.step(state, clamp, perturbations[:, k], answering=answering, **options)
            if answering:
                answers.append(state.activity[:, rnn.ANSWERS])
            positive, negative = state.activity[:, rnn.MODULATORS].unbind(1)
            signals.append(positive - negative)
            if internal and trial >= INTERNAL_FIRST_TRIAL:
                state = net.modulated(state)
            if k == trials.decision:
                loss, choice = _decided(torch.stack(answers, 1), trials.answer[:, trial].long())
                losses[:, trial], correct[:, trial] = loss, choice == trials.answer[:, trial]
                plastic = not internal and trial >= net.first_plastic_trial
                state = net.consolidate(state, loss, kind, plastic=plastic)
                sign = torch.where(correct[:, trial], 1.0, -1.0).to(loss)
                feedback = rnn.GAIN * (loss if net.feedback == "loss" else sign), choice
            if trials.feedback[0] <= k < trials.feedback[1]:
                clamp = net.clamped(inputs[:, k], *feedback)
                state = state._replace(activity=torch.cat((clamp, state.activity[:, rnn.CLAMPED :]), dim=1))
            if trial in slot:
                recorded[:, slot[trial], k] = state.activity
        if internal:
            penalties[:, trial] = INTERNAL_PENALTY * torch.stack(signals, 1).diff(dim=1).square().mean(1)
    return Lifetimes(losses, correct, state.trace, recorded, penalties)


def _decided(answers: Float[Tensor, "batch steps 2"], answer: Int[Tensor, "batch"]) -> tuple[Tensor, Tensor]:
    """The loss and the chosen answer of a trial, from the activity of the answer units."""
    votes = answers.sum(1)
    target = LOW + (HIGH - LOW) * nn.functional.one_hot(answer, 2).to(answers)
    return (answers - target[:, None]).square().mean(1).sum(1), (votes[:, 1] > votes[:, 0]).long()


def _live_fused(net: NodePerturbationRNN, trials: Trials, who: Individuals) -> Lifetimes:
    """Run lifetimes in the numba kernel."""
    from engram.plasticity.kernels.lifetime import cpu

    (batch, count), steps = trials.kind.shape, trials.inputs.shape[1]
    slot = np.full(count, -1)
    slot[list(who.record)] = range(len(who.record))
    loss, choice = np.empty((batch, count), np.float32), np.empty((batch, count), np.int64)
    trace = np.empty((batch, net.units, net.units), np.float32)
    recorded = np.empty((batch, len(who.record), steps, net.units), np.float32)
    source_of = torch.empty(0, dtype=torch.long) if who.source_of is None else who.source_of
    arrays = [who.weight, who.alpha, who.genome, trials.inputs.float(), trials.kind.long(), trials.answer.long()]
    arrays += [*who.noise, who.noise_of, source_of.long()]
    arrays_of_lives = *(tensor.detach().contiguous().numpy() for tensor in arrays), slot
    times = *trials.response, trials.decision, *trials.feedback, net.first_plastic_trial
    rates = np.float32(net.dt / net.tau), np.float32(1 - net.dt / net.tau_e), float(net.eta)
    bounds = np.float32(net.clip), float(net.decay), rnn.GAIN, LOW, HIGH, net.feedback == "binary", net.debias
    fixed = *arrays_of_lives, *times, *rates, *bounds, loss, choice, trace, recorded
    memory = partial(np.empty, cpu.scratch_size(net.units), np.float32)
    shared.run(lambda row, scratch: cpu.lifetime(*fixed, scratch, row), batch, available(), memory)
    correct = torch.from_numpy(choice) == trials.answer
    results = torch.from_numpy(loss), correct, torch.from_numpy(trace), torch.from_numpy(recorded)
    return Lifetimes(*results, torch.zeros(batch, count))
