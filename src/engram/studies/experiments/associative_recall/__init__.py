"""Which write lets a memory of fixed size recall pairs: Hebb's, the delta rule's, or one of their kin?

Each episode shows new pairs of a key and a value, then asks for the value of each key (multi-query associative recall,
Arora et al., 2023). A network is a linear embedding, one memory and a linear readout; the memories are matrices of the
same size, which differ in what they write at each step. The same network learns recall of a few and of many pairs,
keys that are bound again (the last value counts), and pairs that follow many others which are never asked. A second
study completes the binary patterns of differentiable plasticity with each write.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from engram.lab import Experiment, Preset, Run, Study, setting, settings
from engram.studies.experiments.associative_recall.claims import arms, claims, figure, quantities
from engram.studies.experiments.associative_recall.networks import Network, look_up
from engram.tasks import AssociativeRecall, Episode, PatternCompletion

Memory = Literal[
    "hebbian",
    "decayed",
    "delta",
    "gated-delta",
    "momentum-delta",
    "gradient",
    "least-squares",
    "plastic-rnn",
    "lstm",
    "attention",
    "table",
    "no-memory",
]


@settings
class Config:
    """The settings of a trial."""

    memory: Memory = setting("delta", "the memory; set by each arm")
    task: Literal["recall", "completion"] = setting("recall", "recall of pairs, or completion of binary patterns")
    pairs: tuple[int, ...] = setting((4, 8, 16, 32), "numbers of pairs, each as often as the other tasks")
    rebound: int = setting(8, "keys that are bound again", ge=1)
    bindings: int = setting(3, "times that each of them is bound", ge=2)
    noise: int = setting(40, "pairs that come before a mark and are never asked", ge=1)
    asked: int = setting(8, "pairs that come after the mark", ge=1)
    keys: int = setting(64, "tokens that are keys", ge=2)
    values: int = setting(64, "tokens that are values", ge=2)
    length: int = setting(64, "steps of an episode", ge=4)
    bits: int = setting(20, "bits of a pattern to be completed; even", ge=2)
    width: int = setting(32, "features of the embedding", ge=1)
    key_size: int = setting(16, "features of a key and of a value", ge=1)
    steps: int = setting(600, "training steps, each on a batch of episodes of one task", ge=10)
    batch_size: int = setting(16, "episodes in a batch", ge=1)
    tested: int = setting(256, "test episodes of each task", ge=1)
    learning_rate: float = setting(1e-2, "learning rate of Adam", gt=0, le=1)
    backend: Literal["auto", "eager"] = setting(
        "auto", "whether plastic networks may use compiled kernels (auto), or plain PyTorch, with nothing to compile"
    )

    def __post_init__(self) -> None:
        tasks_of(self)
        if self.bits % 2:
            raise ValueError(f"bits = {self.bits}: expected an even number")


def tasks_of(config: Config) -> dict[str, Any]:
    """The tasks of a trial: recall of each number of pairs, re-binding, and recall after noise; or completion."""
    if config.task == "completion":
        return {"completion": PatternCompletion(config.bits)}
    sizes: dict[str, Any] = {"keys": config.keys, "values": config.values, "length": config.length}
    recall = {str(pairs): AssociativeRecall(pairs, **sizes) for pairs in config.pairs}
    return recall | {
        "rebinding": AssociativeRecall(config.rebound, bindings=config.bindings, **sizes),
        "noise": AssociativeRecall(config.asked, noise=config.noise, **sizes),
    }


def answers_of(config: Config, net: Network | None, inputs: Float[Tensor, "time batch features"]) -> Tensor:
    """The answers at every step, of a network or of the table."""
    return look_up(inputs, config.keys, config.values) if net is None else net(inputs)


def loss_of(config: Config, answers: Tensor, episode: Episode) -> Float[Tensor, ""]:
    """Cross-entropy of the values, or the squared error of the patterns, where the answer counts."""
    given, wanted = answers[episode.mask], episode.targets[episode.mask]
    if config.task == "completion":
        return (given - wanted).square().mean()
    return functional.cross_entropy(given, wanted.argmax(-1))


def right(config: Config, answers: Tensor, episode: Episode) -> Bool[Tensor, "..."]:
    """Which values, or bits, are right."""
    given, wanted = answers[episode.mask], episode.targets[episode.mask]
    return given.sign() == wanted if config.task == "completion" else given.argmax(-1) == wanted.argmax(-1)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train one network on all tasks in turn; the results are the shares of right answers in new episodes of each."""
    tasks = tasks_of(config)
    names, sizes = list(tasks), (config.bits, config.bits)
    if config.task == "recall":
        sizes = next(iter(tasks.values())).features, config.values
    net = None
    if config.memory != "table":
        options: dict[str, Any] = {"width": config.width, "key_size": config.key_size, "backend": config.backend}
        net = Network(config.memory, *sizes, **options, generator=run.generator).to(run.device)
        optimizer = torch.optim.Adam(net.parameters(), lr=config.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
        for step in run.steps(config.steps, net=net, optimizer=optimizer, schedule=schedule):
            episode = Episode(
                *(t.to(run.device) for t in tasks[names[step % len(names)]].sample(config.batch_size, run.generator))
            )
            answers = net(episode.inputs)
            loss = loss_of(config, answers, episode)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            wrong = (~right(config, answers, episode)).float().mean()
            run.log(step + 1, every=max(1, config.steps // 50), loss=loss, wrong=wrong)
    result = evaluate(config, run, net, tasks)
    parameters = 0 if net is None else sum(p.numel() for p in (*net.memory.parameters(), *net.back.parameters()))
    return result | {"parameters": float(parameters)}


@torch.no_grad()
def evaluate(config: Config, run: Run, net: Network | None, tasks: dict[str, Any]) -> dict[str, Any]:
    """The share of right answers in new episodes of each task, and of each number of pairs as a curve."""
    shares = {}
    for name, task in tasks.items():
        episode = Episode(*(t.to(run.device) for t in task.sample(config.tested, run.generator)))
        shares[name] = float(right(config, answers_of(config, net, episode.inputs), episode).double().mean())
    if config.task == "completion":
        return {"error": 1 - shares["completion"]}
    curve = [shares[str(pairs)] for pairs in config.pairs]
    return {"right": shares, "recall": curve, "pairs": list(config.pairs), "mean": sum(shares.values()) / len(shares)}


presets = {
    "smoke": Preset(
        seeds=1,
        changes={"pairs": (4, 16, 32), "rebound": 2, "bindings": 2, "noise": 3, "asked": 2, "keys": 32, "values": 8}
        | {"bits": 6, "width": 8, "key_size": 4, "steps": 10, "batch_size": 2, "tested": 4, "backend": "eager"},
    ),
    "laptop": Preset(seeds=5),
}
experiment = Experiment(
    name="associative-recall",
    about=__doc__,
    paper="Schlag, Irie & Schmidhuber, Linear transformers are secretly fast weight programmers, ICML 2021 "
    "(arXiv 2102.11174)",
    studies=Study(trial, arms, gpu=True),
    presets=presets,
    claims=claims,
    quantities=quantities,
    figure=figure,
    headline="wrong",
    answer="""If keys are bound again, the delta rule recalls three times as many of their last values as Hebb's
    {delta-rebinds}; with new pairs alone, as many as a key has features, it is hardly ahead {delta-before-hebb}. After
    many pairs that are never asked, a gate that clears the memory helps the delta rule {gate-clears-noise}; least
    squares is level with it or a little behind {least-squares-up-to-capacity}, and its second matrix gains less than a
    larger first one would {a-second-matrix-is-worth-more}. With twice as many pairs as key features, every write falls
    behind attention, which keeps all of them {all-below-attention}. A Hebbian plastic network and an LSTM of as many
    parameters recall next to nothing, even after five times the training {plastic-rnn-recalls} {writes-before-lstm};
    binary patterns are completed by a layer with Hebb's write with a tenth of the plastic network's errors
    {completion-needs-no-recurrence}.""",
)
