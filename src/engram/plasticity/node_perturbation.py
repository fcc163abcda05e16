"""Node perturbation: a recurrent network that learns during its lifetime from a global reward, without backpropagation.

Random perturbations of the units leave eligibility traces, and those that made an outcome better than usual are
consolidated. Evolution shapes the innate weights W and the plasticities A of the connections.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram import checks
from engram.nn.sequence import check_precision, full_precision
from engram.state import register_states

Matrices = Float[Tensor, "batch post pre"]

# The first units are clamped: two for the stimulus, two for the outcome, a constant, two for a copy of the answer.
STIMULUS, OUTCOME, CONSTANT, COPY = slice(0, 2), slice(2, 4), 4, slice(5, 7)
CLAMPED = 7
# The last units: two that can modulate the network's own plasticity, and two that answer.
MODULATORS, ANSWERS = slice(-4, -2), slice(-2, None)
FREE = slice(CLAMPED, -4)  # the other units, from whose activity analyses decode
KINDS = 4  # kinds of trials, each with its own running mean of the loss

QUIET_STEPS = 2  # steps without perturbations at the start of a trial
QUIET_TRIALS = 19  # trials without perturbations at the end of a lifetime
START = 0.1  # x at birth
GAIN = 3.0  # of the outcome units and the copy of the answer
INTERNAL_ETA = 3e-4
MEAN_DECAY = 0.75  # of the running mean of x in the cubic rule


class NodePerturbationState(NamedTuple):
    """State of individuals between steps and trials.

    Attributes:
        hidden, activity: The units' potentials x and outputs r.
        trace, eligibility: The plastic weights P and the eligibility traces E.
        baseline, visits: Running mean of the loss for each kind of trial, and the number of such trials so far.
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
        """The same state, detached from its graph."""
        return NodePerturbationState(*(tensor.detach() for tensor in self))


register_states(NodePerturbationState)


class Perturbations(NamedTuple):
    """Random perturbations of whole lifetimes, as lists of the nonzero ones.

    Attributes:
        first: Index in the lists at which those of each step begin; steps are counted through a whole lifetime.
        unit: The unit that each perturbation acts on.
        size: Value that each perturbation adds to the unit's potential.
    """

    first: Int[Tensor, "sets moments_and_end"]
    unit: Int[Tensor, "events"]
    size: Float[Tensor, "events"]

    def dense(self, start: int, stop: int, units: int) -> Float[Tensor, "sets moments units"]:
        """The perturbations of a range of steps, with zeros for units that are not perturbed.

        Args:
            start: First step.
            stop: One past the last step.
            units: Number of units.

        Raises:
            ValueError: ``units`` is below 1, ``stop`` is beyond the lifetime, or ``start`` is not from 0 to ``stop``.
        """
        checks.arguments()
        checks.size("stop", stop, minimum=0, maximum=self.first.shape[1] - 1)
        checks.size("start", start, minimum=0, maximum=stop)
        checks.size("units", units)
        filled = self.size.new_zeros(len(self.first), stop - start, units)
        for values, entries in zip(filled, self.first, strict=True):
            first_entry, last_entry = int(entries[start]), int(entries[stop])
            steps = torch.repeat_interleave(torch.arange(stop - start), entries[start : stop + 1].diff())
            values[steps, self.unit[first_entry:last_entry].long()] = self.size[first_entry:last_entry]
        return filled


def three_factor(
    eligibility: Float[Tensor, "*batch post pre"], modulator: Float[Tensor, "*batch"], clip: float | None = None
) -> Float[Tensor, "*batch post pre"]:
    """The three-factor change of the weights: the modulatory signal times the eligibility trace, bounded.

        dP = clip(m E, -c, c)

    Args:
        eligibility: Eligibility traces E, (post, pre), after any batch axes.
        modulator: The third factor m, one number for each element of the batch; for node perturbation with loss L and
            expected loss b, m = -eta b (L - b).
        clip: The bound c of each element; None: no bound.

    Raises:
        ValueError: ``clip`` is not a positive number.

    Source: Miconi, "Biologically plausible learning in recurrent neural networks" (eLife 2017), equation 5; the bound
    is that of his published code.

    Examples:
        >>> three_factor(torch.tensor([[1.0, 100.0]]), torch.tensor(-0.0018), clip=0.01)
        tensor([[-0.0018, -0.0100]])
    """
    checks.arguments()
    bound = None if clip is None else checks.number("clip", clip, above=0)
    change = modulator[..., None, None] * eligibility
    return change if bound is None else torch.clamp(change, -bound, bound)


class NodePerturbationRNN(nn.Module):
    r"""A recurrent network that learns during its lifetime by node perturbation, modulated by reward.

    In a step, with r from the step before, and perturbations xi_i that are nonzero with probability p,

        x  <-  x + (dt / tau) (-x + (W + A * P) r) + xi
        E  <-  (1 - dt / tau_e) (E + xi r^T)
        r  <-  tanh(x)          first seven units: clamped; last two: sigmoid(x) while they answer, else 0

    and once per trial, with its loss L and the running mean b of the loss in trials of its kind,

        P  <-  P + clip(-eta b (L - b) E, -c, c),        b  <-  0.9 b + 0.1 L

    The units are, in order: 2 stimulus, 2 outcome (both 3 L, so large is bad), 1 constant, 2 for a copy of the answer,
    free ones, 2 modulators, 2 answers. Weights and traces are (post, pre). x starts at 0.1, but at 0 in the first five
    units; r starts equal to x, but at 1 in the constant unit. There are no perturbations in the last 19 trials of a
    lifetime and the first two steps of a trial; P changes from the 32nd trial on. ``engram.plasticity.lifetimes`` runs
    whole lifetimes.

    Args:
        units: Number of units N, at least 12.
        tau: Time constant of x, ms.
        dt: Duration of a step, ms.
        tau_e: Time constant of the eligibility trace, ms.
        perturbation_prob: Probability p that a unit is perturbed in a step.
        perturbation: Largest magnitude of a perturbation, which is drawn uniformly up to it in both directions.
        eta: Learning rate; 0: no plasticity.
        clip: Bound c of a change.
        decay: Fraction of the running mean of the loss that is kept in each trial, 0.9 above.
        first_plastic_trial: First trial, counted from 0, in which P changes.
        hebbian: ``"perturbation"``: as above. ``"cubic"``: E is reset in every trial and sums
            (r (x - mean of x))^3 instead, as in the rule of 2017.
        modulation: ``"reward"``: as above. ``"internal"``, experimental: the modulators change the weights at every
            step, P <- P + clip(3e-4 (r_N-4 - r_N-3) E, -c, c), from the 12th trial on.
        feedback: The signal of the outcome units: 3 times the ``"loss"``, or ``"binary"``, +3 right and -3 wrong.
        debias: Whether to divide the running mean of the loss by 1 - 0.9^n after n trials; the publication does not, so
            early outcomes seem worse than usual.
        weight_scale: g of the initial W ~ N(0, g^2 / N); below 0 it counts as 0.
        generator: Source of the initial weights; torch's global one if None.

    Attributes:
        weight: Innate weights W, (post, pre); rows of the first five units and of the modulators are initially 0.
        alpha: Plasticities A, (post, pre), initially all 0.5.

    Raises:
        TypeError, ValueError: An argument is of the wrong type or out of range.

    Source: Miconi, "Learning to acquire novel cognitive tasks with evolution, plasticity and meta-meta-learning"
    (ICML 2023), with the order of events and the constants of its published code; the cubic rule: Miconi (eLife 2017).

    Examples:
        >>> net = NodePerturbationRNN(20, generator=torch.Generator().manual_seed(0))
        >>> net.init(3).hidden.shape
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
        checks.arguments()
        super().__init__()
        checks.size("units", units, minimum=CLAMPED + 2 + 3)  # 7 clamped, 2 answers, 2 modulators and a free one
        if not 0 < dt <= min(tau, tau_e) < math.inf:
            raise ValueError(f"dt = {dt}: expected a positive number, at most tau = {tau} and tau_e = {tau_e}")
        checks.number("perturbation_prob", perturbation_prob, minimum=0, maximum=1)
        checks.number("decay", decay, minimum=0, below=1)
        for name, value in (("perturbation", perturbation), ("eta", eta), ("weight_scale", weight_scale)):
            checks.number(name, value)
        checks.number("clip", clip, above=0)
        checks.size("first_plastic_trial", first_plastic_trial, minimum=0)
        checks.choice("hebbian", hebbian, ("perturbation", "cubic"))
        checks.choice("modulation", modulation, ("reward", "internal"))
        checks.choice("feedback", feedback, ("loss", "binary"))
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
        """The arguments as ``repr`` shows them."""
        return f"{self.units}, eta={self.eta}, hebbian={self.hebbian!r}, modulation={self.modulation!r}"

    def init(self, batch_size: int) -> NodePerturbationState:
        """The initial state of a number of individuals.

        Raises:
            ValueError: The weights have half precision, which could not count the trials.
        """
        checks.size("batch_size", batch_size)
        check_precision(self.weight)
        hidden = self.weight.new_full((batch_size, self.units), START)
        hidden[:, : CONSTANT + 1] = 0
        activity = hidden.clone()
        activity[:, CONSTANT] = 1
        matrices = self.weight.new_zeros(batch_size, self.units, self.units)
        kinds = self.weight.new_zeros(batch_size, KINDS)
        return NodePerturbationState(hidden, activity, matrices, matrices.clone(), kinds, kinds.clone(), hidden.clone())

    def step(
        self,
        state: NodePerturbationState,
        clamp: Float[Tensor, "batch clamped"],
        xi: Float[Tensor, "*perturbed units"] | None = None,
        *,
        answering: bool = False,
        weight: Matrices | None = None,
        alpha: Matrices | None = None,
        source_of: Int[Tensor, "units"] | None = None,
    ) -> NodePerturbationState:
        """The state after a step; nothing is changed in place.

        Args:
            state: State before the step.
            clamp: Activity of the first seven units, as ``clamped`` returns it.
            xi: Perturbations, different for each individual or the same for all; None: no perturbations.
            answering: Whether the answer units are active; they are silent otherwise.
            weight: Innate weights of each individual; None: the module's.
            alpha: Plasticities of each individual; None: the module's.
            source_of: A control: the traces of the connections from unit i read the activity of unit ``source_of[i]``
                as presynaptic; None: that of unit i itself.

        Raises:
            ValueError: Shapes do not match.
        """
        checks.arguments()
        if state.hidden.shape[-1:] != (self.units,):
            raise ValueError(f"state.hidden.shape = {tuple(state.hidden.shape)}: expected (batch, {self.units})")
        weight, alpha = self.weight if weight is None else weight, self.alpha if alpha is None else alpha
        effective = weight + alpha * state.trace
        before = state.activity
        presynaptic = before if source_of is None else before[:, source_of]
        with full_precision(before.device):
            current = (effective @ before[..., None])[..., 0]
        hidden = state.hidden + (self.dt / self.tau) * (current - state.hidden)
        eligibility, mean = state.eligibility, state.mean
        if xi is not None:
            hidden = hidden + xi
        if self.hebbian == "cubic":
            eligibility = eligibility + ((hidden - mean)[:, :, None] * presynaptic[:, None, :]) ** 3
            mean = MEAN_DECAY * mean + (1 - MEAN_DECAY) * hidden
        else:
            if xi is not None:
                eligibility = eligibility + xi.expand_as(before)[:, :, None] * presynaptic[:, None, :]
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
        """The state after a trial with loss L, which updates the running mean of its kind and, if ``plastic``, P.

        Args:
            state: The state when the answer of the trial is read.
            loss: L, (batch,).
            kind: The kind of the trial, (batch,).
            plastic: Whether the weights change.
        """
        checks.arguments()
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
        """The activity of the first seven units; outcome and answer are shown only if both are given.

        Args:
            stimulus: Activity of the stimulus units, (batch, 2).
            outcome: The signal of the outcome units, (batch,); None outside the feedback window.
            answer: The network's own answer, 0 or 1, (batch,); None outside the feedback window.
        """
        checks.arguments()
        clamp = stimulus.new_zeros(len(stimulus), CLAMPED)
        clamp[:, STIMULUS] = stimulus
        clamp[:, CONSTANT] = 1
        if outcome is not None and answer is not None:
            clamp[:, OUTCOME] = outcome[:, None]
            clamp[:, COPY] = GAIN * nn.functional.one_hot(answer.long(), 2).to(clamp)
        return clamp

    def perturbations(self, sets: int, trials: int, steps: int, generator: torch.Generator) -> Perturbations:
        """Draw the perturbations of a number of lifetimes.

        The gaps between perturbed units are drawn from a geometric distribution, so that only nonzero perturbations
        have to be drawn.

        Args:
            sets: Number of lifetimes.
            trials: Number of trials in a lifetime.
            steps: Number of steps in a trial.
            generator: Source of the perturbations.

        Raises:
            ValueError: ``sets`` is not from 1 to 10^6, or ``trials`` or ``steps`` is negative.
        """
        checks.arguments()
        checks.size("sets", sets, maximum=10**6)
        checks.size("trials", trials, minimum=0)
        checks.size("steps", steps, minimum=0)
        loud = max(trials - QUIET_TRIALS, 0), max(steps - QUIET_STEPS, 0), self.units
        trial_starts, events, total = [], [], 0
        for _ in range(sets):
            sites = _bernoulli_sites(math.prod(loud), self.perturbation_prob, generator)
            trial, offset = sites // (loud[1] * loud[2] or 1), sites % (loud[1] * loud[2] or 1)
            moments = trial * steps + QUIET_STEPS + offset // self.units
            step_starts = torch.searchsorted(moments, torch.arange(trials * steps + 1))
            trial_starts.append(step_starts + total)
            total += len(sites)
            events.append((offset % self.units).to(torch.int16))
        size = (2 * torch.rand(total, generator=generator) - 1) * self.perturbation
        return Perturbations(torch.stack(trial_starts), torch.cat(events), size)

    def modulated(self, state: NodePerturbationState) -> NodePerturbationState:
        """The state after the modulators have changed the plastic weights, as internal modulation does."""
        checks.arguments()
        positive, negative = state.activity[:, MODULATORS].unbind(1)
        change = three_factor(state.eligibility, INTERNAL_ETA * (positive - negative), self.clip)
        return state._replace(trace=state.trace + change)


def _bernoulli_sites(sites: int, probability: float, generator: torch.Generator) -> Int[Tensor, "events"]:
    """The ordered indices of the chosen sites; each is chosen independently with the given probability."""
    if probability == 0 or sites == 0:
        return torch.empty(0, dtype=torch.long)
    log_miss = math.log1p(-probability) if probability < 1 else -math.inf
    position_blocks: list[Tensor] = []
    last = -1
    while last < sites:
        expected = (sites - last) * probability
        chance = 1 - torch.rand(int(expected + 6 * math.sqrt(expected) + 10), generator=generator, dtype=torch.float64)
        gaps = 1 + (chance.log() / log_miss).floor().clamp(max=sites)
        position_blocks.append(last + gaps.long().cumsum(0))
        last = int(position_blocks[-1][-1])
    positions = torch.cat(position_blocks)
    return positions[positions < sites]
