"""A recurrent network that learns in its lifetime by node perturbation and a global reward signal.

No gradient is propagated back, neither in time nor through the network: random perturbations of the units leave
eligibility traces, and what made an outcome better than usual is consolidated. What evolution shapes are the innate
weights W and the plasticities A of the connections.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from engram.plasticity.kernels import threads
from engram.plasticity.three_factor import three_factor
from engram.plasticity.validation import check_choice, check_size, check_type

Backend = Literal["auto", "eager", "factorised", "fused"]
Matrices = Float[Tensor, "batch post pre"]

# The first units are clamped: two for the stimulus, two for the outcome, a constant, two for a copy of the own answer.
STIMULUS, OUTCOME, CONSTANT, COPY = slice(0, 2), slice(2, 4), 4, slice(5, 7)
CLAMPED = 7
# The last ones: two that could modulate the network's own plasticity, and two that answer.
MODULATORS, ANSWERS = slice(-4, -2), slice(-2, None)
FREE = slice(CLAMPED, -4)
KINDS = 4  # of trials that have a running mean of the loss of their own

QUIET_STEPS = 2  # at the start of a trial without perturbations
QUIET_TRIALS = 19  # at the end of a life without perturbations
START = 0.1  # x at birth
LOW, HIGH = 0.1, 0.9  # what the wrong and the right answer unit should show
GAIN = 3.0  # of the feedback units
DIVERGED = 1e3
INTERNAL_ETA, INTERNAL_FIRST_TRIAL, INTERNAL_PENALTY = 3e-4, 11, 0.27
MEAN_DECAY = 0.75  # of the running mean of x in the cubic rule
SETS_AT_ONCE = 64  # individuals with perturbations of their own whose perturbations are in memory together


class NodePerturbationState(NamedTuple):
    """What an individual carries from step to step, and from trial to trial.

    Attributes:
        hidden: The units' potentials x.
        activity: Their outputs r.
        trace: The plastic weights P.
        eligibility: The eligibility traces E.
        baseline: Running mean of the loss, for each kind of trial.
        visits: How many trials of each kind there were.
        mean: Running mean of x, which only the cubic rule needs.
    """

    hidden: Float[Tensor, "batch units"]
    activity: Float[Tensor, "batch units"]
    trace: Matrices
    eligibility: Matrices
    baseline: Float[Tensor, "batch kinds"]
    visits: Float[Tensor, "batch kinds"]
    mean: Float[Tensor, "batch units"]

    def detach(self) -> NodePerturbationState:
        """Return the same state cut off from the graph that made it."""
        return NodePerturbationState(*(part.detach() for part in self))


class Trials(NamedTuple):
    """What individuals live through: one trial after another, nothing being reset in between.

    Attributes:
        inputs: Activity of the stimulus units at each step, for each of the four kinds of trials.
        kind: The kind of each trial.
        answer: The right answer of each trial, 0 or 1.
        response: Steps, first and one past the last, at which the answer units are heard.
        decision: Step at which the answer is read, and the weights change.
        feedback: Steps, first and one past the last, at which loss and answer are shown.
    """

    inputs: Float[Tensor, "kinds steps 2"]
    kind: Int[Tensor, "batch trials"]
    answer: Int[Tensor, "batch trials"]
    response: tuple[int, int]
    decision: int
    feedback: tuple[int, int]


class Perturbations(NamedTuple):
    """Random perturbations of lives, as lists of those that are not zero.

    Attributes:
        first: Where in the lists those of a step begin, counted through all steps of a life.
        unit: Which unit each perturbs.
        size: What it adds to the unit's potential.
    """

    first: Int[Tensor, "sets moments_and_end"]
    unit: Int[Tensor, "events"]
    size: Float[Tensor, "events"]

    def dense(self, start: int, stop: int, units: int) -> Float[Tensor, "sets moments units"]:
        """Return the perturbations of some steps, the others being zero."""
        filled = self.size.new_zeros(len(self.first), stop - start, units)
        for row, first in zip(filled, self.first, strict=True):
            begin, end = int(first[start]), int(first[stop])
            moments = torch.repeat_interleave(torch.arange(stop - start), first[start : stop + 1].diff())
            row[moments, self.unit[begin:end].long()] = self.size[begin:end]
        return filled


class Lifetimes(NamedTuple):
    """What came of some lives.

    Attributes:
        loss: Squared error of each trial.
        correct: Whether the answer was right.
        trace: The plastic weights at the end.
        recorded: Activity of all units in the trials that were to be recorded.
        penalty: What internal modulation costs in each trial; zero where there is none.
    """

    loss: Float[Tensor, "batch trials"]
    correct: Bool[Tensor, "batch trials"]
    trace: Matrices
    recorded: Float[Tensor, "batch recorded steps units"]
    penalty: Float[Tensor, "batch trials"]


class NodePerturbationRNN(nn.Module):
    r"""A recurrent network that learns in its lifetime by node perturbation, modulated by reward.

    In a step, with r of the step before, and perturbations xi_i that are zero but with probability p,

        x  <-  x + (dt / tau) (-x + (W + A * P) r) + xi
        E  <-  (1 - dt / tau_e) (E + xi r^T)
        r  <-  tanh(x)          clamped for the first seven units, sigmoid while they are heard for the last two

    and once a trial, with its loss L and the running mean b of the loss in trials of its kind,

        P  <-  P + clip(-eta b (L - b) E, -c, c),        b  <-  0.9 b + 0.1 L

    The units are, in order: 2 stimulus, 2 outcome (both 3 L, large being bad), 1 constant, 2 copy of the own answer,
    free ones, 2 modulators, 2 answers. Weights and traces are (post, pre). x begins at 0.1, in the first five units at 0,
    and r at x. The last 19 trials of a life and the first two steps of a trial are without perturbations; P changes from
    the 32nd trial on.

    Args:
        units: Number of units N, at least 12.
        tau: Time constant of x, ms.
        dt: Duration of a step, ms.
        tau_e: Time constant of the eligibility trace, ms.
        perturbation_prob: Probability p that a unit is perturbed in a step.
        perturbation: Largest size of a perturbation, which is uniform between its negative and itself.
        eta: Learning rate; 0: no plasticity.
        clip: Bound c of a change.
        decay: What the running mean of the loss keeps.
        first_plastic_trial: First trial, counted from 0, after which P changes.
        hebbian: ``"perturbation"``: as above. ``"cubic"``: E is reset in every trial and sums
            (r (x - mean of x))^3 instead, as in the rule of 2017.
        modulation: ``"reward"``: as above. ``"internal"``, experimental: the modulators change the weights at every
            step, P <- P + clip(3e-4 (r_N-4 - r_N-3) E, -c, c), from the 12th trial on.
        feedback: What the outcome units show: 3 times the ``"loss"``, or ``"binary"``, +3 right and -3 wrong.
        debias: Divide the running mean of the loss by 1 - 0.9^n after n trials; the publication does not, so that
            early outcomes seem worse than usual.
        weight_scale: g of the initial W ~ N(0, g^2 / N).
        generator: Random generator of the initial weights.

    Attributes:
        weight: Innate weights W, (post, pre); rows of the first five units and of the modulators begin at 0.
        alpha: Plasticities A, (post, pre), all 0.5 at first.

    Raises:
        TypeError: ``units`` is no int.
        ValueError: An argument is out of range.

    Source: Miconi, "Learning to acquire novel cognitive tasks with evolution, plasticity and meta-meta-learning"
    (ICML 2023), with the order of events and the constants of its published code; the cubic rule: Miconi (eLife 2017).

    Examples:
        >>> net = NodePerturbationRNN(20, generator=torch.Generator().manual_seed(0))
        >>> net.init_state(3).hidden.shape
        torch.Size([3, 20])
    """

    def __init__(
        self,
        units: int = 70,
        *,
        tau: float = 100.0,
        dt: float = 20.0,
        tau_e: float = 1000.0,
        perturbation_prob: float = 0.1,
        perturbation: float = 0.5,
        eta: float = 0.03,
        clip: float = 0.01,
        decay: float = 0.9,
        first_plastic_trial: int = 31,
        hebbian: Literal["perturbation", "cubic"] = "perturbation",
        modulation: Literal["reward", "internal"] = "reward",
        feedback: Literal["loss", "binary"] = "loss",
        debias: bool = False,
        weight_scale: float = 1.5,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_size("units", units)
        least = CLAMPED + 2 + 3
        if units < least:
            raise ValueError(f"units = {units}: expected at least {least}: 7 clamped, 2 answers and 3 more")
        if not 0 < dt <= min(tau, tau_e) < math.inf:
            raise ValueError(f"dt = {dt}: expected a positive number, at most tau = {tau} and tau_e = {tau_e}")
        if not 0 <= perturbation_prob <= 1:
            raise ValueError(f"perturbation_prob = {perturbation_prob}: expected a number from 0 to 1")
        if not 0 <= decay < 1:
            raise ValueError(f"decay = {decay}: expected a number from 0 to below 1")
        for name, value in (("perturbation", perturbation), ("eta", eta), ("weight_scale", weight_scale)):
            if not math.isfinite(value):
                raise ValueError(f"{name} = {value}: expected a finite number")
        if not 0 < clip < math.inf:
            raise ValueError(f"clip = {clip}: expected a positive number")
        if first_plastic_trial < 0:
            raise ValueError(f"first_plastic_trial = {first_plastic_trial}: expected at least 0")
        check_choice("hebbian", hebbian, ("perturbation", "cubic"))
        check_choice("modulation", modulation, ("reward", "internal"))
        check_choice("feedback", feedback, ("loss", "binary"))
        self.units, self.tau, self.dt, self.tau_e = units, tau, dt, tau_e
        self.perturbation_prob, self.perturbation = perturbation_prob, perturbation
        self.eta, self.clip, self.decay, self.first_plastic_trial = eta, clip, decay, first_plastic_trial
        self.hebbian, self.modulation, self.feedback, self.debias = hebbian, modulation, feedback, debias
        weight = max(weight_scale, 0.0) / math.sqrt(units) * torch.randn(units, units, generator=generator)
        weight[: CONSTANT + 1] = 0
        weight[MODULATORS] = 0
        self.weight = nn.Parameter(weight)
        self.alpha = nn.Parameter(torch.full((units, units), 0.5))

    def extra_repr(self) -> str:
        """Return what a printed module says of itself."""
        return f"{self.units}, eta={self.eta}, hebbian={self.hebbian!r}, modulation={self.modulation!r}"

    def init_state(self, batch_size: int) -> NodePerturbationState:
        """Return the state of newborn individuals.

        Args:
            batch_size: Number of individuals.

        Raises:
            TypeError: ``batch_size`` is no int.
            ValueError: ``batch_size`` is less than one.
        """
        check_size("batch_size", batch_size)
        hidden = self.weight.new_full((batch_size, self.units), START)
        hidden[:, : CONSTANT + 1] = 0
        activity = hidden.clone()
        activity[:, CONSTANT] = 1
        matrices = self.weight.new_zeros(batch_size, self.units, self.units)
        kinds = self.weight.new_zeros(batch_size, KINDS)
        return NodePerturbationState(hidden, activity, matrices, matrices, kinds, kinds, hidden)

    def step(
        self,
        state: NodePerturbationState,
        clamp: Float[Tensor, "batch clamped"],
        xi: Float[Tensor, "*perturbed units"] | None = None,
        *,
        answering: bool = False,
        weight: Matrices | None = None,
        alpha: Matrices | None = None,
    ) -> NodePerturbationState:
        """Return the state after a step; nothing is changed in place.

        Args:
            state: State before it.
            clamp: Activity of the first seven units, as ``clamped`` makes it.
            xi: Perturbations, of each individual or of all; None: none.
            answering: Whether the answer units are heard; they are silent otherwise.
            weight: Innate weights of each individual; None: the module's.
            alpha: Plasticities of each individual; None: the module's.
        """
        effective = self._or_own(weight, self.weight) + self._or_own(alpha, self.alpha) * state.trace
        before = state.activity
        hidden = state.hidden + (self.dt / self.tau) * (_sent(effective, before) - state.hidden)
        eligibility, mean = state.eligibility, state.mean
        if xi is not None:
            hidden = hidden + xi
        if self.hebbian == "cubic":
            eligibility = eligibility + _outer(hidden - mean, before) ** 3
            mean = MEAN_DECAY * mean + (1 - MEAN_DECAY) * hidden
        else:
            if xi is not None:
                eligibility = eligibility + _outer(xi.expand_as(before), before)
            eligibility = (1 - self.dt / self.tau_e) * eligibility
        answers = hidden[:, ANSWERS].sigmoid() if answering else torch.zeros_like(hidden[:, ANSWERS])
        activity = torch.cat((clamp, hidden[:, CLAMPED : self.units - 2].tanh(), answers), dim=1)
        return state._replace(hidden=hidden, activity=activity, eligibility=eligibility, mean=mean)

    def consolidate(
        self,
        state: NodePerturbationState,
        loss: Float[Tensor, "batch"],
        kind: Int[Tensor, "batch"],
        *,
        plastic: bool = True,
    ) -> NodePerturbationState:
        """Return the state after the outcome of a trial: the three-factor update, and the running mean of the loss.

        Args:
            state: State before it.
            loss: The loss L of the trial.
            kind: The kind of the trial, which has a running mean of its own.
            plastic: Whether P changes; otherwise only the running mean does.
        """
        index = kind[:, None].long()
        baseline, visits = state.baseline.gather(1, index)[:, 0], state.visits.gather(1, index)[:, 0]
        expected = baseline / (1 - self.decay**visits).where(visits > 0, 1) if self.debias else baseline
        trace = state.trace
        if plastic:
            factor = -self.eta * expected * (loss - expected)
            trace = trace + three_factor(state.eligibility, factor, self.clip)
        return state._replace(
            trace=trace,
            baseline=state.baseline.scatter(1, index, (self.decay * baseline + (1 - self.decay) * loss)[:, None]),
            visits=state.visits.scatter(1, index, (visits + 1)[:, None]),
        )

    def clamped(
        self,
        stimulus: Float[Tensor, "batch 2"],
        outcome: Float[Tensor, "batch"] | None = None,
        answer: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch clamped"]:
        """Return the activity of the first seven units.

        Args:
            stimulus: Activity of the stimulus units.
            outcome: What the outcome units show; None outside the feedback window.
            answer: The own answer; None outside the feedback window.
        """
        clamp = stimulus.new_zeros(len(stimulus), CLAMPED)
        clamp[:, STIMULUS] = stimulus
        clamp[:, CONSTANT] = 1
        if outcome is not None and answer is not None:
            clamp[:, OUTCOME] = outcome[:, None]
            clamp[:, COPY] = GAIN * nn.functional.one_hot(answer.long(), 2).to(clamp)
        return clamp

    def perturbations(self, sets: int, trials: int, steps: int, generator: torch.Generator) -> Perturbations:
        """Draw the perturbations of whole lives.

        The gaps between perturbed units are geometric, so that only those are drawn that are not zero.

        Args:
            sets: For how many lives that differ in them.
            trials: Trials of a life.
            steps: Steps of a trial.
            generator: Source of all randomness.
        """
        loud = max(trials - QUIET_TRIALS, 0), max(steps - QUIET_STEPS, 0), self.units
        firsts, events, total = [], [], 0
        for _ in range(sets):
            sites = _bernoulli_sites(math.prod(loud), self.perturbation_prob, generator)
            trial, rest = sites // (loud[1] * loud[2] or 1), sites % (loud[1] * loud[2] or 1)
            moments = trial * steps + QUIET_STEPS + rest // self.units
            first = torch.searchsorted(moments, torch.arange(trials * steps + 1))
            firsts.append(first + total)
            total += len(sites)
            events.append((rest % self.units).to(torch.int16))
        size = (2 * torch.rand(total, generator=generator) - 1) * self.perturbation
        return Perturbations(torch.stack(firsts), torch.cat(events), size)

    @torch.no_grad()
    def lifetimes(
        self,
        trials: Trials,
        generator: torch.Generator,
        *,
        weight: Matrices | None = None,
        alpha: Matrices | None = None,
        shared_noise: bool = True,
        record: Sequence[int] = (),
        order: Int[Tensor, "units"] | None = None,
        backend: Backend = "auto",
    ) -> Lifetimes:
        """Live through all trials, from birth.

        Args:
            trials: What each individual experiences.
            generator: Source of the perturbations.
            weight: Innate weights, (individuals, post, pre), or one set for all; None: the module's.
            alpha: Plasticities, in the same way.
            shared_noise: Whether all individuals are perturbed alike, as published, which lowers the variance of
                their differences, but forbids to take them for independent.
            record: Trials in which the activity is recorded.
            order: A control: the eligibility of a connection is taken from the presynaptic unit at its place in this
                order. None: from its own.
            backend: ``"eager"``: step by step as defined. ``"factorised"``: two matrix products a trial in place of the
                trace's steps. ``"fused"``: the numba kernel. ``"auto"``: the fastest that can.

        Returns:
            Loss and correctness of every trial, the plastic weights at the end, and what was recorded.

        Raises:
            TypeError: An argument is of the wrong type.
            ValueError: An argument does not fit the others, there are too few trials for any plasticity, or the
                backend cannot run this network.
            FloatingPointError: An individual diverged; the message says which.
        """
        check_choice("backend", backend, ("auto", "eager", "factorised", "fused"))
        self._check_trials(trials)
        batch, count = trials.kind.shape
        genome, weights = self._genomes("weight", weight, self.weight, batch)
        _, alphas = self._genomes("alpha", alpha, self.alpha, batch)
        if len(alphas) != len(weights):
            raise ValueError(f"alpha.shape = {tuple(alphas.shape)}: expected as many as weight, {len(weights)}")
        unfit = self._why_not_fused(weights)
        if backend == "fused" and unfit:
            raise ValueError(f"backend = 'fused': {unfit}")
        if backend == "factorised" and (reason := self._why_not_factorised()):
            raise ValueError(f"backend = 'factorised': {reason}")
        if backend == "auto":
            backend = "eager" if self._why_not_factorised() else ("factorised" if unfit else "fused")
        live = {"eager": self._live_by_steps, "factorised": self._live_by_trials, "fused": self._live_fused}[backend]
        parts, groups = [], [torch.arange(batch)] if shared_noise else list(torch.arange(batch).split(SETS_AT_ONCE))
        for rows in groups:
            noise = self.perturbations(1 if shared_noise else len(rows), count, trials.inputs.shape[1], generator)
            noise_of = torch.zeros(batch, dtype=torch.long) if shared_noise else torch.arange(len(rows))
            part = trials._replace(kind=trials.kind[rows], answer=trials.answer[rows])
            parts.append(live(part, weights, alphas, genome[rows], noise, noise_of, tuple(record), order))
        lives = Lifetimes(*map(torch.cat, zip(*parts, strict=True)))
        bad = lives.loss.isnan().any(1) | ~(lives.trace.abs().amax((1, 2)) <= DIVERGED)
        if bad.any():
            row = int(bad.nonzero()[0])
            largest = float(lives.trace[row].abs().max())
            raise FloatingPointError(
                f"individual {row} diverged: its largest plastic weight is {largest:g}, "
                f"its last loss {float(lives.loss[row, -1]):g}"
            )
        return lives

    def _check_trials(self, trials: Trials) -> None:
        check_type("trials", trials, Trials)
        kinds, steps, _ = trials.inputs.shape
        if kinds != KINDS:
            raise ValueError(f"trials.inputs.shape = {tuple(trials.inputs.shape)}: expected ({KINDS}, steps, 2)")
        if trials.kind.shape != trials.answer.shape:
            raise ValueError(f"trials.answer.shape = {tuple(trials.answer.shape)}: expected {tuple(trials.kind.shape)}")
        for name, value, limit in (("kind", trials.kind, KINDS), ("answer", trials.answer, 2)):
            if value.numel() and not (int(value.min()) >= 0 and int(value.max()) < limit):
                raise ValueError(f"trials.{name}: expected numbers from 0 to {limit - 1}")
        if not 0 <= trials.response[0] < trials.response[1] <= trials.decision <= trials.feedback[0]:
            raise ValueError(
                f"trials: response = {trials.response}, decision = {trials.decision}, feedback = {trials.feedback}: "
                "expected them in this order"
            )
        if not (trials.feedback[0] <= trials.feedback[1] <= steps and trials.decision < steps):
            raise ValueError(f"trials.feedback = {trials.feedback}: expected to end by the last of {steps} steps")
        least = self.first_plastic_trial + 2
        if trials.kind.shape[1] < least:
            raise ValueError(
                f"trials.kind.shape[1] = {trials.kind.shape[1]} trials: expected at least {least}, since plasticity "
                f"begins at trial {self.first_plastic_trial}"
            )

    def _genomes(self, name: str, given: Any, own: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        genomes = own.detach()[None] if given is None else given
        check_type(name, genomes, Tensor)
        if genomes.shape[1:] != own.shape or len(genomes) not in (1, batch):
            raise ValueError(f"{name}.shape = {tuple(genomes.shape)}: expected (1 or {batch}, *{tuple(own.shape)})")
        return torch.arange(batch) if len(genomes) > 1 else torch.zeros(batch, dtype=torch.long), genomes

    def _why_not_factorised(self) -> str:
        if self.hebbian != "perturbation":
            return f"hebbian = {self.hebbian!r}: expected 'perturbation'"
        if self.modulation != "reward":
            return f"modulation = {self.modulation!r}: expected 'reward'"
        return ""

    def _why_not_fused(self, weight: Tensor) -> str:
        if reason := self._why_not_factorised():
            return reason
        if weight.device.type != "cpu":
            return f"weight.device = {weight.device}: expected cpu"
        if weight.dtype != torch.float32:
            return f"weight.dtype = {weight.dtype}: expected torch.float32"
        return ""

    def _live_by_steps(
        self,
        trials: Trials,
        weights: Tensor,
        alphas: Tensor,
        genome: Tensor,
        noise: Perturbations,
        noise_of: Tensor,
        record: tuple[int, ...],
        order: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Live as defined."""
        weight, alpha = weights[genome], alphas[genome]
        state = self.init_state(len(genome))
        steps = trials.inputs.shape[1]
        log = _Log(self, trials, record, weight)
        for trial in range(trials.kind.shape[1]):
            kind, answer = trials.kind[:, trial], trials.answer[:, trial]
            xi = noise.dense(trial * steps, (trial + 1) * steps, self.units).to(weight)[noise_of]
            log.begin(answer)
            if self.hebbian == "cubic":
                state = state._replace(eligibility=torch.zeros_like(state.eligibility))
            for k in range(steps):
                answering = trials.response[0] <= k < trials.response[1]
                clamp = self.clamped(trials.inputs[kind, k].to(weight))
                before, eligible = state, state.eligibility
                if order is not None:
                    # The step adds xi r^T; the control adds it with the presynaptic units in another order.
                    state = self.step(state, clamp, xi[:, k], answering=answering, weight=weight, alpha=alpha)
                    added = _outer(xi[:, k], before.activity[:, order])
                    state = state._replace(eligibility=(1 - self.dt / self.tau_e) * (eligible + added))
                else:
                    state = self.step(state, clamp, xi[:, k], answering=answering, weight=weight, alpha=alpha)
                log.step(state.activity, answering)
                if self.modulation == "internal" and trial >= INTERNAL_FIRST_TRIAL:
                    first, second = state.activity[:, MODULATORS].unbind(1)
                    change = three_factor(state.eligibility, INTERNAL_ETA * (first - second), self.clip)
                    state = state._replace(trace=state.trace + change)
                if k == trials.decision:
                    loss, _ = log.decide()
                    plastic = self.modulation == "reward" and trial >= self.first_plastic_trial
                    state = self.consolidate(state, loss, kind, plastic=plastic)
                if trials.feedback[0] <= k < trials.feedback[1]:
                    shown = self.clamped(trials.inputs[kind, k].to(weight), log.outcome(answer), log.choice)
                    state = state._replace(activity=torch.cat((shown, state.activity[:, CLAMPED:]), dim=1))
                log.record(trial, k, state.activity)
            log.end()
        return (*log.result(), state.trace, log.recorded, torch.stack(log.penalties, 1))

    def _live_by_trials(
        self,
        trials: Trials,
        weights: Tensor,
        alphas: Tensor,
        genome: Tensor,
        noise: Perturbations,
        noise_of: Tensor,
        record: tuple[int, ...],
        order: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Live with the weights of each trial made once, and its eligibility by two matrix products.

        With D_k = q^(d + 1 - k), q = 1 - dt / tau_e, and the decision at step d,

            E_d = q^(d+1) E + (D X)_0..d^T R_0..d,      X_k = xi_k, R_k = r of the step before
        """
        weight, alpha = weights[genome], alphas[genome]
        state = self.init_state(len(genome))
        steps, split = trials.inputs.shape[1], trials.decision + 1
        keep, rate = 1 - self.dt / self.tau_e, self.dt / self.tau
        power = keep ** torch.arange(steps, 0, -1, device=weight.device, dtype=weight.dtype)[None, :, None]
        log = _Log(self, trials, record, weight)
        for trial in range(trials.kind.shape[1]):
            kind, answer = trials.kind[:, trial], trials.answer[:, trial]
            xi = noise.dense(trial * steps, (trial + 1) * steps, self.units).to(weight)[noise_of]
            inputs = trials.inputs[kind].to(weight)
            effective = weight + alpha * state.trace
            hidden, activity, eligibility = state.hidden, state.activity, state.eligibility
            log.begin(answer)
            sent = []
            for k in range(steps):
                sent.append(activity if order is None else activity[:, order])
                hidden = hidden + rate * (_sent(effective, activity) - hidden) + xi[:, k]
                answering = trials.response[0] <= k < trials.response[1]
                answers = hidden[:, ANSWERS].sigmoid() if answering else torch.zeros_like(hidden[:, ANSWERS])
                clamp = self.clamped(inputs[:, k])
                activity = torch.cat((clamp, hidden[:, CLAMPED : self.units - 2].tanh(), answers), dim=1)
                log.step(activity, answering)
                if k == trials.decision:
                    loss, _ = log.decide()
                    driven = xi[:, :split] * power[:, steps - split :]
                    eligibility = keep**split * eligibility + driven.mT @ torch.stack(sent, 1)
                    state = state._replace(eligibility=eligibility)
                    state = self.consolidate(state, loss, kind, plastic=trial >= self.first_plastic_trial)
                    effective = weight + alpha * state.trace
                if trials.feedback[0] <= k < trials.feedback[1]:
                    shown = self.clamped(inputs[:, k], log.outcome(answer), log.choice)
                    activity = torch.cat((shown, activity[:, CLAMPED:]), dim=1)
                log.record(trial, k, activity)
            rest = (xi[:, split:] * power[:, split:]).mT @ torch.stack(sent, 1)[:, split:]
            eligibility = keep ** (steps - split) * eligibility + rest
            state = state._replace(hidden=hidden, activity=activity, eligibility=eligibility)
            log.end()
        return (*log.result(), state.trace, log.recorded, torch.stack(log.penalties, 1))

    def _live_fused(
        self,
        trials: Trials,
        weights: Tensor,
        alphas: Tensor,
        genome: Tensor,
        noise: Perturbations,
        noise_of: Tensor,
        record: tuple[int, ...],
        order: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Live in the numba kernel."""
        from engram.plasticity.kernels import lifetime

        batch, count = trials.kind.shape
        slot = np.full(count, -1, dtype=np.int64)
        slot[list(record)] = range(len(record))
        loss, choice = np.empty((batch, count), np.float32), np.empty((batch, count), np.int64)
        trace = np.empty((batch, self.units, self.units), np.float32)
        recorded = np.empty((batch, len(record), trials.inputs.shape[1], self.units), np.float32)
        fixed = (
            weights.detach().contiguous().numpy(),
            alphas.detach().contiguous().numpy(),
            genome.numpy(),
            trials.inputs.float().contiguous().numpy(),
            trials.kind.long().contiguous().numpy(),
            trials.answer.long().contiguous().numpy(),
            noise.first.numpy(),
            noise.unit.numpy(),
            noise.size.numpy(),
            noise_of.numpy(),
            np.empty(0, np.int64) if order is None else order.long().contiguous().numpy(),
            slot,
            *trials.response,
            trials.decision,
            *trials.feedback,
            self.first_plastic_trial,
            np.float32(self.dt / self.tau),
            np.float32(1 - self.dt / self.tau_e),
            float(self.eta),
            np.float32(self.clip),
            float(self.decay),
            GAIN,
            LOW,
            HIGH,
            self.feedback == "binary",
            self.debias,
            loss,
            choice,
            trace,
            recorded,
        )
        kernel, size = lifetime.kernel(), lifetime.scratch_size(self.units)
        threads.shared.run(
            lambda row, own: kernel(*fixed, own, row),
            batch,
            torch.get_num_threads(),
            lambda: np.empty(size, np.float32),
        )
        correct = torch.from_numpy(choice) == trials.answer
        return (
            torch.from_numpy(loss),
            correct,
            torch.from_numpy(trace),
            torch.from_numpy(recorded),
            weights.new_zeros(batch, count),
        )

    @staticmethod
    def _or_own(given: Tensor | None, own: Tensor) -> Tensor:
        return own if given is None else given


class _Log:
    """What the torch paths note of each trial: answers, losses, records, what internal modulation costs."""

    def __init__(self, net: NodePerturbationRNN, trials: Trials, record: tuple[int, ...], like: Tensor) -> None:
        self.net, self.trials = net, trials
        self.slot = {trial: place for place, trial in enumerate(record)}
        batch, steps = len(trials.kind), trials.inputs.shape[1]
        self.recorded = like.new_zeros(batch, len(record), steps, net.units)
        self.losses: list[Tensor] = []
        self.corrects: list[Tensor] = []
        self.penalties: list[Tensor] = []
        self.choice = self.loss = like

    def begin(self, answer: Tensor) -> None:
        self.answer = answer
        self.heard: list[Tensor] = []
        self.signals: list[Tensor] = []

    def step(self, activity: Tensor, answering: bool) -> None:
        if answering:
            self.heard.append(activity[:, ANSWERS])
        if self.net.modulation == "internal":
            first, second = activity[:, MODULATORS].unbind(1)
            self.signals.append(first - second)

    def decide(self) -> tuple[Tensor, Tensor]:
        heard = torch.stack(self.heard, 1)
        votes = heard.sum(1)
        self.choice = (votes[:, 1] > votes[:, 0]).long()
        target = LOW + (HIGH - LOW) * nn.functional.one_hot(self.answer.long(), 2).to(heard)
        self.loss = (heard - target[:, None]).square().mean(1).sum(1)
        self.losses.append(self.loss)
        self.corrects.append(self.choice == self.answer)
        return self.loss, self.choice

    def outcome(self, answer: Tensor) -> Tensor:
        if self.net.feedback == "loss":
            return GAIN * self.loss
        return torch.where(self.choice == answer, GAIN, -GAIN).to(self.loss)

    def record(self, trial: int, step: int, activity: Tensor) -> None:
        if trial in self.slot:
            self.recorded[:, self.slot[trial], step] = activity

    def end(self) -> None:
        penalty = torch.zeros_like(self.loss)
        if self.signals:
            penalty = INTERNAL_PENALTY * torch.stack(self.signals, 1).diff(dim=1).square().mean(1)
        self.penalties.append(penalty)

    def result(self) -> tuple[Tensor, Tensor]:
        return torch.stack(self.losses, 1), torch.stack(self.corrects, 1)


def _sent(weight: Tensor, activity: Tensor) -> Tensor:
    return (weight @ activity[..., None])[..., 0]


def _outer(post: Tensor, pre: Tensor) -> Tensor:
    return post[:, :, None] * pre[:, None, :]


def _bernoulli_sites(sites: int, probability: float, generator: torch.Generator) -> Int[Tensor, "events"]:
    """Return which of some sites are chosen, each with a probability and independently, in order."""
    if probability == 0 or sites == 0:
        return torch.empty(0, dtype=torch.long)
    found: list[Tensor] = []
    last = -1
    while last < sites:
        expected = (sites - last) * probability
        gaps = torch.empty(int(expected + 6 * math.sqrt(expected) + 10)).geometric_(probability, generator=generator)
        found.append(last + gaps.long().cumsum(0))
        last = int(found[-1][-1])
    positions = torch.cat(found)
    return positions[positions < sites]
