"""A generation of evolved plastic networks, compared with evosax, and the same network in JAX, compiled.

Both evolve the innate weights and the plasticities of ``NodePerturbationRNN`` by the same strategy, antithetic pairs
with Adam, through equal lifetimes: as many trials of the two-stimulus task, the same units and population, the same
loss. A generation draws the tasks, the perturbations and the population, runs every individual through its lifetime,
and updates the mean. Before the times, two identities show that the problem is the same: with the same perturbations
and tasks, both networks have the same losses, and from the same population and losses, both strategies go to the same
parameters.

The network in JAX is written as JAX is fast: one compiled program per generation, nested scans, effective weights that
are computed anew only when plastic weights change, and eligibility traces of a whole trial by one matrix product
instead of step by step. It runs individual by individual or all at once (``lax.map`` and ``vmap``); both are measured.

``python benchmarks/evolution.py`` measures, on one core, where evosax is installed; without it there is no record.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engram.optim import AntitheticES
from engram.plasticity import NodePerturbationRNN, Trials, lifetimes
from engram.plasticity import node_perturbation as rnn
from engram.tasks.two_stimulus import RIGHT, TABLES, WRONG, TwoStimulus
from in_turn import in_turn

RECORD = Path(__file__).with_suffix(".json")
UNITS, TRIALS, SCORED = 70, 400, 100  # the loss of an individual is the mean over its last trials
POPULATION, CHECKED = 64, 4
SIGMA, RATE, DECAY = 0.03, 0.01, 3e-4  # of the mutations and of Adam
TASK = TwoStimulus(trials=TRIALS)
OURS = "engram"


def network() -> NodePerturbationRNN:
    return NodePerturbationRNN(UNITS, generator=torch.Generator().manual_seed(0))


def block(individuals: int, generator: torch.Generator) -> Trials:
    drawn, timing = TASK.block(individuals, generator), TASK.timing
    return Trials(TASK.inputs(), drawn.kind, drawn.answer, timing.response, timing.decision, timing.feedback)


class Ours:
    """Evolution by engram: the numba kernel and ``AntitheticES``, each call of which is a generation."""

    def __init__(self) -> None:
        self.net, self.generator = network(), torch.Generator().manual_seed(1)
        self.es = AntitheticES(
            self.net.parameters(),
            SIGMA,
            partial(torch.optim.Adam, lr=RATE, weight_decay=DECAY),
            population_size=POPULATION,
        )

    def live(self) -> None:
        weight, alpha = self.es.ask()
        trials = block(POPULATION, self.generator)
        lives = lifetimes(self.net, trials, self.generator, weight=weight, alpha=alpha, backend="fused")
        self.es.tell(loss=lives.loss[:, -SCORED:].mean(1))

    def ask_and_tell(self) -> None:
        self.es.ask()
        self.es.tell(loss=torch.rand(POPULATION, generator=self.generator))


class Theirs:
    """Evolution by evosax: the network in JAX and ``Open_ES``; ``at_once``: all individuals by vmap, not one by one."""

    def __init__(self, at_once: bool) -> None:
        import jax
        import optax
        from evosax.algorithms import Open_ES
        from evosax.core.fitness_shaping import identity_fitness_shaping_fn

        self.jax, self.net, self.at_once = jax, network(), at_once
        start = {name: jax.numpy.array(value.detach().numpy()) for name, value in self.net.named_parameters()}
        self.es = Open_ES(
            POPULATION,
            start,
            optimizer=optax.chain(optax.add_decayed_weights(DECAY), optax.adam(RATE)),
            std_schedule=optax.constant_schedule(SIGMA),
            fitness_shaping_fn=identity_fitness_shaping_fn,
        )
        self.params = self.es.default_params
        self.key = jax.random.key(1)
        state = self.es.init(self.key, start, self.params)
        self.state = jax.tree.map(lambda part: part.astype(part.dtype), state)  # of the types that `tell` returns
        self.generation, self.update = jax.jit(self._generation), jax.jit(self._ask_and_tell)

    def live(self) -> None:
        self.key, key = self.jax.random.split(self.key)
        self.state = self.jax.block_until_ready(self.generation(key, self.state))

    def ask_and_tell(self) -> None:
        self.key, key = self.jax.random.split(self.key)
        self.state = self.jax.block_until_ready(self.update(key, self.state))

    def _generation(self, key: Any, state: Any) -> Any:
        jax, np = self.jax, self.jax.numpy
        for_kind, for_table, for_size, for_place, for_ask, for_tell = jax.random.split(key, 6)
        kind = jax.random.randint(for_kind, (POPULATION, TRIALS), 0, 4)
        table = jax.random.randint(for_table, (POPULATION,), 0, len(TABLES))
        answer = np.array(list(TASK.tables.values()))[table[:, None], kind]
        shape = TRIALS, TASK.timing.steps, UNITS
        size = jax.random.uniform(for_size, shape, minval=-1, maxval=1) * self.net.perturbation
        xi = np.where(jax.random.bernoulli(for_place, self.net.perturbation_prob, shape), size, 0)
        xi = xi.at[:, : rnn.QUIET_STEPS].set(0).at[-rnn.QUIET_TRIALS :].set(0)
        population, state = self.es.ask(for_ask, state, self.params)
        loss = self.losses(population, kind, answer, xi)[:, -SCORED:].mean(1)
        return self.es.tell(for_tell, population, loss, state, self.params)[0]

    def _ask_and_tell(self, key: Any, state: Any) -> Any:
        for_ask, for_loss, for_tell = self.jax.random.split(key, 3)
        population, state = self.es.ask(for_ask, state, self.params)
        loss = self.jax.random.uniform(for_loss, (POPULATION,))
        return self.es.tell(for_tell, population, loss, state, self.params)[0]

    def losses(self, population: dict[str, Any], kind: Any, answer: Any, xi: Any) -> Any:
        """The loss of each trial of each individual, with perturbations xi that all of them share."""

        def of_one(genome: tuple[Any, ...]) -> Any:
            return self.lifetime(*genome, xi)

        genomes = population["weight"], population["alpha"], kind, answer
        return self.jax.vmap(of_one)(genomes) if self.at_once else self.jax.lax.map(of_one, genomes)

    def lifetime(self, weight: Any, alpha: Any, kinds: Any, answers: Any, xi: Any) -> Any:
        """The loss of each trial in the lifetime of an individual, as ``NodePerturbationRNN`` defines it."""
        jax, np, net, timing = self.jax, self.jax.numpy, self.net, TASK.timing
        steps, split = np.arange(timing.steps), timing.decision + 1
        answering = (steps >= timing.response[0]) & (steps < timing.response[1])
        feeding = ((steps >= timing.feedback[0]) & (steps < timing.feedback[1])).astype(np.float32)
        clamps = np.zeros((4, timing.steps, rnn.CLAMPED)).at[:, :, rnn.STIMULUS].set(TASK.inputs().numpy())
        clamps = clamps.at[:, :, rnn.CONSTANT].set(1)
        rate, keep = net.dt / net.tau, 1 - net.dt / net.tau_e
        before = keep ** (split - np.arange(split, dtype=np.float32))  # what is left at the decision
        after = keep ** (timing.steps - np.arange(split, timing.steps, dtype=np.float32))  # and at the end

        def step(carry: Any, now: Any) -> Any:
            effective, x, r = carry
            clamp, pulse, is_answering = now
            x = x + rate * (effective @ r - x) + pulse
            given = np.where(is_answering, jax.nn.sigmoid(x[rnn.ANSWERS]), 0)
            return (effective, x, np.concatenate((clamp, np.tanh(x[rnn.CLAMPED : -2]), given))), (r, given)

        def trial(carry: Any, now: Any) -> Any:
            effective, P, E, x, r, baseline = carry
            kind, answer, pulses, plastic = now
            clamp = clamps[kind]
            first = clamp[:split], pulses[:split], answering[:split]
            (_, x, r), (activity, given) = jax.lax.scan(step, (effective, x, r), first)
            E = keep**split * E + (before[:, None] * pulses[:split]).T @ activity
            given = given[slice(*timing.response)]
            target = np.where(np.arange(2) == answer, RIGHT, WRONG)
            loss = ((given - target) ** 2).mean(0).sum()
            votes = given.sum(0)
            choice = (votes[1] > votes[0]).astype(int)
            expected = baseline[kind]
            change = np.clip(-net.eta * expected * (loss - expected) * E, -net.clip, net.clip)
            P = P + np.where(plastic, change, 0)
            effective = weight + alpha * P
            baseline = baseline.at[kind].set(net.decay * expected + (1 - net.decay) * loss)
            feedback = np.zeros(rnn.CLAMPED).at[rnn.OUTCOME].set(rnn.GAIN * loss)
            feedback = feedback.at[rnn.COPY].set(rnn.GAIN * (np.arange(2) == choice))
            fed = clamp + feeding[:, None] * feedback
            r = r.at[: rnn.CLAMPED].set(fed[split - 1])
            rest = fed[split:], pulses[split:], answering[split:]
            (_, x, r), (activity, _) = jax.lax.scan(step, (effective, x, r), rest)
            E = keep ** (timing.steps - split) * E + (after[:, None] * pulses[split:]).T @ activity
            return (effective, P, E, x, r, baseline), loss

        x = np.full(UNITS, rnn.START).at[: rnn.CONSTANT + 1].set(0)
        matrix = np.zeros((UNITS, UNITS))
        birth = weight, matrix, matrix, x, x.at[rnn.CONSTANT].set(1), np.zeros(4)
        plastic = np.arange(len(kinds)) >= net.first_plastic_trial
        return jax.lax.scan(trial, birth, (kinds, answers, xi, plastic))[1]


def differences(theirs: Theirs) -> dict[str, float]:
    """Return how far the losses of the same lifetimes, and the parameters after the same population, are apart."""
    jax, generator = theirs.jax, torch.Generator().manual_seed(2)
    ours = Ours()
    population = ours.es.ask()
    trials = block(CHECKED, generator)
    state = generator.get_state()
    xi = ours.net.perturbations(1, TRIALS, TASK.timing.steps, generator).dense(0, TRIALS * TASK.timing.steps, UNITS)
    generator.set_state(state)
    weight, alpha = (tensor[:CHECKED] for tensor in population)
    loss = lifetimes(ours.net, trials, generator, weight=weight, alpha=alpha, backend="fused").loss
    genomes = {"weight": weight.numpy(), "alpha": alpha.numpy()}
    pulses = xi.reshape(TRIALS, TASK.timing.steps, UNITS).numpy()
    same = jax.jit(theirs.losses)(genomes, trials.kind.numpy(), trials.answer.numpy(), pulses)
    scores = torch.rand(POPULATION, generator=generator)
    ours.es.tell(loss=scores)
    told = {"weight": population[0].numpy(), "alpha": population[1].numpy()}
    fresh = theirs.es.init(theirs.key, {n: v.detach().numpy() for n, v in network().named_parameters()}, theirs.params)
    after = theirs.es.get_mean(theirs.es.tell(theirs.key, told, scores.numpy(), fresh, theirs.params)[0])
    moved = max(float(np.abs(after[n] - v.detach().numpy()).max()) for n, v in ours.net.named_parameters())
    apart = np.abs(np.array(same) - loss.numpy())
    return {"loss": float(apart.max()), "median loss": float(np.median(apart)), "parameters": moved}


def measured(repeats: int) -> dict[str, Any] | None:
    """Return the seconds of a generation and of ask and tell, measured in turn; None if evosax is not installed."""
    try:
        peers = {"evosax, one by one": Theirs(at_once=False), "evosax, all at once": Theirs(at_once=True)}
    except ImportError as error:
        print(f"{error.name} is not installed: not measured")
        return None
    apart = differences(peers["evosax, one by one"])
    print(apart)
    ways: dict[str, Ours | Theirs] = {OURS: Ours(), **peers}
    first: dict[str, float] = {}
    for name, way in ways.items():
        start = time.process_time()
        way.live()
        first[name] = time.process_time() - start
    print({name: f"{seconds:.1f} s" for name, seconds in first.items()}, flush=True)
    lives: dict[str, Callable[[], object]] = {name: way.live for name, way in ways.items()}
    updates: dict[str, Callable[[], object]] = {name: way.ask_and_tell for name, way in ways.items()}
    return {
        "load": os.getloadavg()[0],
        "versions": {name: metadata.version(name) for name in ("evosax", "jax")},
        "apart": apart,
        "first": first,
        "generation": in_turn(lives, repeats, time.process_time),
        "ask and tell": in_turn(updates, 10 * repeats, time.process_time),
    }


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    versions, apart = record["versions"], record["apart"]
    ours = {what: statistics.median(record[what][OURS]) for what in ("generation", "ask and tell")}
    lines = [
        "## Evolution, against evosax",
        "",
        f"A generation of {POPULATION} plastic networks of {UNITS} units with lifetimes of {TRIALS} trials of",
        f"{TASK.timing.steps} steps, by engram (a numba kernel and `AntitheticES`) and by evosax {versions['evosax']}",
        f"(`Open_ES`, and the same network compiled by JAX {versions['jax']}, one individual after another or all at",
        "once). Milliseconds of processor time on one core, medians and quartiles of repetitions, taken in turn; after",
        "the comma: relative to engram. *First call*: with compilation, of which numba keeps the result between runs.",
        f"With the same tasks and perturbations, the losses of all trials of {CHECKED} individuals differ by at most",
        f"{apart['loss']:.0e} (median {apart['median loss']:.0e}); with the same population and losses, the parameters",
        f"after a generation differ by at most {apart['parameters']:.0e}.",
        "",
        f"Load average before the run {record['load']:.1f}.",
        "",
        "| | generation | ask and tell alone | first call |",
        "|---|---|---|---|",
    ]
    for name in record["generation"]:
        cells = [name]
        for what, middle in ours.items():
            quartiles = statistics.quantiles(record[what][name], n=4)
            low, median, high = (f"{1e3 * value:.3g}" for value in quartiles)
            times = "" if name == OURS else f", {quartiles[1] / middle:.1f}x"
            cells.append(f"{median} ({low} .. {high}){times}")
        lines.append("| " + " | ".join([*cells, f"{record['first'][name]:.1f} s"]) + " |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before JAX starts a thread for every core
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    if (record := measured(3 if options.quick else 9)) is not None:
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
        print("\n".join(section(record)))


if __name__ == "__main__":
    main()
