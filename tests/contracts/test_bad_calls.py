"""Wrong arguments: no public function crashes or hangs on them, and its error names the argument.

Every function, constructor and method that the packages offer is called with arguments made from its signature, one of
them wrong: of another type, shape, dtype or size, NaN, or beyond all bounds. Calls are made in a process that may die.
"""

from __future__ import annotations

import collections.abc
import contextlib
import enum
import functools
import importlib
import inspect
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import types
import typing
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from sklearn.exceptions import NotFittedError

from engram.agents import RND, ActorCritic, CuriousActorCritic, HashCounts
from engram.analysis.verify import AffineReLU, Argmax, Box
from engram.continual import TaskData
from engram.continual.anml import GatedNet
from engram.generative.diffusion import CondUNet
from engram.learned.learning_to_remember import GatedRule, RuleNetwork, Topology
from engram.learned.updates import AdamRule, MimicryEpisode
from engram.memory import DND, HebbHopfield, KeyValueMemory
from engram.memory.fragments import LongTermStore
from engram.plasticity import Oja, PlasticRNN
from engram.tasks.meta import (
    MetaTask,
    MetaTaskEnv,
    MetaTaskVectorEnv,
    ProbRef,
    ProbVar,
    RewardRule,
    StateRef,
    StateVar,
    Stim,
)

PACKAGES = (
    "agents",
    "analysis",
    "analysis.composition",
    "analysis.verify",
    "continual",
    "continual.anml",
    "generative.design",
    "generative.diffusion",
    "learned.blur",
    "learned.learning_to_remember",
    "learned.updates",
    "memory",
    "memory.fragments",
    "nn",
    "nn.ntk",
    "optim",
    "plasticity",
    "rules",
    "rules.synaptic",
    "rules.temporal",
    "spatial",
    "spatial.induction",
    "spatial.pomcp",
    "tasks",
    "tasks.meta",
)
# Of one call, after which it counts as one that hangs, computing or waiting, or fills memory.
SECONDS, WAITING, MEGABYTES = 20, 600, 6000
SAMPLE = 150
SAMPLES = np.random.default_rng(0).random((12, 3))
NET = AffineReLU((np.ones((4, 3)), np.ones((3, 4))), (np.zeros(4), np.zeros(3)))
TABLE, VARIABLES = np.full((3, 3, 3), 1 / 3), {"state_vars": (StateVar((1, 2)),) * 4, "prob_vars": (ProbVar(),)}
TASK = MetaTask(TABLE, (RewardRule(old=StateRef(0), p=ProbRef(0)),), **VARIABLES, stim=Stim(3), horizon=9)
TOPOLOGY = Topology((1, 1, 1), ((0, 1), (1, 2)))
DENOISER = CondUNet(4, label_dim=3)
MODEL = types.SimpleNamespace(n_actions=3, step=lambda state, action, rng: (state, 0, 1.0, True))


def environments():
    return MetaTaskVectorEnv(TASK, 3)


def curiosity():
    return RND((3,), num_envs=3, hidden=8, feature_dim=4)


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(3))], 0.1)


def episode():
    inputs, labels = task_data().train
    start = {name: p.detach() for name, p in torch.nn.Linear(3, 3).named_parameters()}
    return MimicryEpisode(start, {}, inputs, labels, (inputs,), (inputs,))


def rule_state():
    return RuleNetwork(TOPOLOGY, GatedRule()).init(3)


def task_data():
    return TaskData((torch.ones(3, 3), torch.arange(3)), (0, 1, 2))


# Good arguments that their types do not tell, by name, and what has to be called before another method.
MADE = {
    "C": lambda: np.array([[0, 1], [1, 2]]), "H": lambda: np.array([[1, 1, 0], [0, 1, 1]]), "net": lambda: NET,
    "network": lambda: NET, "box": lambda: Box(-np.ones(3), np.ones(3)), "inputs": lambda: torch.full((3, 3), 0.5),
    "prop": lambda: Argmax(0), "module": lambda: torch.nn.Linear(3, 3), "X": SAMPLES.copy,
    "x0": lambda: np.ones(3), "capacity": lambda: 8, "low": lambda: -np.ones(3), "high": lambda: np.ones(3),
    "transition": lambda: np.full((3, 2, 3), 1 / 3), "y": lambda: np.arange(12) % 2,
    "labels": lambda: np.arange(12) % 3, "bins": lambda: np.full(3, 2),
    "observation_space": lambda: spaces.Box(-1.0, 1.0, (3,)), "action_space": lambda: spaces.Box(-1.0, 1.0, (3,)),
    "make_network": lambda: HebbHopfield, "make_bonus": lambda: HashCounts,
    # Those of one class, function or method go before the others, and are given where there is a default, too.
    "ActorCritic.network": lambda: PlasticRNN(3, 3), "rollout.env": environments, "a2c_step.optimizer": optimizer,
    "play_episode.env": lambda: MetaTaskEnv(TASK), "heterogeneity.env": lambda: MetaTaskEnv(TASK),
    "FragmentedCuriosity.make_module": lambda: curiosity, "FragmentedCuriosity.num_envs": lambda: 3,
    "FragmentedCuriosity.bonus.next_obs": lambda: torch.ones(3, 3, 3),
    "FragmentedCuriosity.update.obs": lambda: torch.ones(3, 3, 3),
    "IntrinsicReward.env": environments, "IntrinsicReward.curiosity": curiosity,
    "IntrinsicReward.step.actions": lambda: np.zeros(3, int),
    "MFEC.memory": lambda: KeyValueMemory(8, 3, tables=3), "NEC.memory": lambda: DND(8, 3, tables=3),
    "NEC.encoder": lambda: torch.nn.Linear(3, 3), "EpisodicControl.act.observation": lambda: np.ones(3),
    "EpisodicControl.values.observation": lambda: np.ones(3), "RecurrentAgent.act.observation": lambda: np.ones(3),
    "VectorActor.env": environments, "RecurrentAgent.action_space": lambda: spaces.Discrete(3),
    "VectorActor.agent": lambda: CuriousActorCritic((3,), 3, hidden=8, memory=None),
    "TrainedAgent.network": lambda: ActorCritic(PlasticRNN(3, 3), 3),
    "AccuracyMatrix.accuracies": lambda: np.full((3, 3), 0.5),
    "AffineReLU.weights": lambda: NET.weights, "AffineReLU.biases": lambda: NET.biases,
    "Region.pattern": lambda: (np.ones(4, np.int8),),
    "GatedNet.body": lambda: torch.nn.Linear(3, 3), "GatedNet.head": lambda: torch.nn.Linear(3, 3),
    "SequentialMetaLearner.net": lambda: GatedNet(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)),
    "SequentialMetaLearner.inner.x": lambda: torch.ones(3, 3),
    "SequentialMetaLearner.inner.y": lambda: torch.ones(3, dtype=int),
    "SequentialMetaLearner.step.x": lambda: torch.ones(3, 3),
    "SequentialMetaLearner.step.y": lambda: torch.ones(3, dtype=int),
    "SequentialMetaLearner.step.remember_x": lambda: torch.ones(3, 3),
    "end_task.task": task_data, "task_batches.task": task_data, "train_on_tasks.tasks": lambda: [task_data()],
    "train_on_tasks.optimizer": optimizer, "train_on_tasks.draw": lambda: lambda task, step: task.train,
    "SeqCNN.length": lambda: 3, "SeqCNN.kernel": lambda: 3, "SeqCNN.vocab": lambda: 3,
    "SeqCNN.forward.x": lambda: torch.ones(3, 3, 3),
    "CondUNet.size": lambda: 4, "CondUNet.label_dim": lambda: 3,
    "CondUNet.forward.x": lambda: torch.ones(3, 1, 4, 4),
    "forward.labels": lambda: torch.ones(3, 3), "hidden.labels": lambda: torch.ones(3, 3),
    "loss.labels": lambda: torch.ones(3, 3), "hidden.model": lambda: DENOISER,
    "hidden.layer": lambda: DENOISER.stem, "hidden.x": lambda: torch.ones(3, 1, 4, 4),
    "loss.x0": lambda: torch.ones(3), "noised.x0": lambda: torch.ones(3), "target.x0": lambda: torch.ones(3),
    "Topology.groups": lambda: (1, 1, 1), "Topology.blocks": lambda: ((0, 1), (1, 2)),
    "Topology.of_group.group": lambda: 1, "RuleNetwork.topology": lambda: TOPOLOGY, "RuleNetwork.rule": GatedRule,
    "RuleNetwork.forward.input": lambda: torch.ones(3, 3, 1), "RuleNetwork.forward.state": rule_state,
    "RuleNetwork.tick.state": rule_state, "TeacherMimicTrainer.rule": lambda: AdamRule(3),
    "TeacherMimicTrainer.body": lambda: torch.nn.Linear(3, 3), "TeacherMimicTrainer.episodes": lambda: [episode()],
    "LearnedUpdate.model": lambda: torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)),
    "LearnedUpdate.attach.optimizer": optimizer,
    "DND.capacity": lambda: 8, "DND.key_dim": lambda: 3, "KeyValueMemory.write.values": lambda: torch.ones(3),
    "FragmentAndRecall.factory": lambda: list, "FragmentAndRecall.store": lambda: LongTermStore("exact"),
    "SlowWeights.rule": Oja, "POMCP.model": lambda: MODEL,
    "ClassStreams.images": lambda: torch.ones(3, 3, 3, 3), "ClassStreams.steps": lambda: 3,
    "ClassStreams.remember": lambda: 3, "RoomGrid.grid": lambda: np.array([[0, 2], [5, 0]]),
    "RoomGrid.step.action": lambda: 1, "SingleEnv.step.action": lambda: 1,
    "BatchedEnv.step.actions": lambda: np.zeros(3, int), "MetaTaskVectorEnv.num_envs": lambda: 3,
    "MetaTaskVectorEnv.instance.row": lambda: 1,
    "MetaTask.transition": lambda: TASK.transition, "MetaTask.reward_rules": lambda: TASK.reward_rules,
    "MetaTask.state_vars": lambda: TASK.state_vars, "MetaTask.prob_vars": lambda: TASK.prob_vars,
    "MetaTask.stim": lambda: TASK.stim, "MetaTask.parts_of.state": lambda: 1,
    "MetaTask.column.ref": lambda: StateRef(0),
}  # fmt: skip
BEFORE = ("reset", "fit", "ask", "store", "act")
# What may be said without the name of an argument: that there is no such file or no such optional package.
EXCUSED = (FileNotFoundError, ImportError, NotImplementedError, NotFittedError, ResetNeeded)
UNTYPED = (None, "x", b"x", object(), {}, [], [[1], [2, 3]], (), lambda: 0, 1j, True)
NUMBERS = (-1, 0, 1, 7, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.5, 1e-320, 1e308, float("nan"), float("inf"))


@functools.cache
def callables():
    """Return every public function, and every class with its public methods, by name."""
    members = {}
    for package in PACKAGES:
        module = importlib.import_module(f"engram.{package}")
        for name in module.__all__:
            thing = getattr(module, name)
            kinds = BaseException | enum.Enum
            if inspect.isclass(thing) and (issubclass(thing, kinds) or inspect.isabstract(thing) or is_protocol(thing)):
                continue
            if callable(thing) and getattr(thing, "__module__", "").startswith("engram."):
                members[f"{thing.__module__}.{name}"] = (thing, None)
                for method in public_methods(thing) if inspect.isclass(thing) else ():
                    members[f"{thing.__module__}.{name}.{method}"] = (thing, method)
    return dict(sorted(members.items()))


def is_protocol(thing):
    return getattr(thing, "_is_protocol", False)


def public_methods(cls):
    """Return what the class itself defines and is called, without what it inherits from other libraries."""
    own = {
        name: value
        for base in cls.__mro__
        if base.__module__.startswith("engram.")
        for name, value in vars(base).items()
    }
    names = [name for name, value in own.items() if inspect.isfunction(value) and not name.startswith("_")]
    return [name for name in names if len(inspect.signature(own[name]).parameters) > 1]


def hints(function):
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def parameters(function):
    """Return the parameters that can be given by name, with their type hints."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return {}
    known = hints(function.__init__ if inspect.isclass(function) else function)
    known = known or (hints(function) if inspect.isclass(function) else {})
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        p.name: (known.get(p.name), p.default)
        for p in signature.parameters.values()
        if p.kind in kinds and p.name != "self"
    }


def arguments(function, dims, depth=0):
    """Return good arguments, as far as their types tell."""
    required = {
        name: hint for name, (hint, default) in parameters(function).items() if default is inspect.Parameter.empty
    }
    makers = {name: make for owner in owners(function) for name, make in made_for(owner).items()}
    # A class may hand arguments on that it does not name itself.
    given = {name: make() for name, make in makers.items() if inspect.isclass(function) or name in parameters(function)}
    for name, hint in required.items():
        if name not in given:
            given[name] = MADE[name]() if name in MADE else good(hint, dims, depth)
    return given


def owners(function):
    """Return the names under which there may be arguments of a call, the most particular last."""
    if inspect.isclass(function):
        return [base.__name__ for base in reversed(function.__mro__)]
    return [function.__name__, function.__qualname__]


@functools.cache
def made_for(owner):
    """Return what makes the arguments of one class, function or method."""
    return {key.rpartition(".")[2]: make for key, make in MADE.items() if key.rpartition(".")[0] == owner}


def good(hint, dims, depth):
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hasattr(hint, "array_type"):
        return array(hint, dims)
    if origin is typing.Annotated:
        return good(args[0], dims, depth)
    if origin in (typing.Union, types.UnionType):
        return good(next((a for a in args if a is not type(None)), None), dims, depth)
    if origin is typing.Literal:
        return args[0]
    if origin in (collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection, list):
        return [good(args[0], dims, depth) for _ in range(3)]
    if origin is tuple:
        kinds = args[:1] * 3 if args[1:] == (...,) else args
        return tuple(good(kind, dims, depth) for kind in kinds)
    if origin in (dict, collections.abc.Mapping):
        return {}
    if origin is collections.abc.Callable:
        return lambda *values: values[0]
    if origin is np.ndarray:
        return np.full((3, 3), 0.5)
    simple = {
        bool: False, int: 3, float: 0.5, str: "x", Path: Path("x"), np.ndarray: np.full((3, 3), 0.5),
        torch.Tensor: torch.full((3, 3), 0.5), torch.Generator: torch.Generator(), torch.device: torch.device("cpu"),
        np.random.Generator: np.random.default_rng(0), torch.nn.Module: torch.nn.GRUCell(3, 3),
        torch.dtype: torch.float32,
    }  # fmt: skip
    if hint in simple:
        return simple[hint]
    if inspect.isclass(hint) and hint.__module__.startswith("engram.") and depth < 4:
        kinds = [hint, *(cls for cls, _ in callables().values() if inspect.isclass(cls) and derives(cls, hint))]
        kind = next((k for k in kinds if not inspect.isabstract(k) and not is_protocol(k)), hint)
        return kind(**arguments(kind, dims, depth + 1))
    return 3


def derives(cls, hint):
    try:
        return issubclass(cls, hint)
    except TypeError:  # a protocol that cannot say
        return False


def array(hint, dims):
    """Return an array or tensor of the dtype and shape of a hint; one name is one size."""
    names = [dim for dim in hint.dim_str.split() if not dim.startswith(("*", "..."))]
    sizes = [int(dim) if dim.isdigit() else dims.setdefault(dim, 3) for dim in names]
    kind = str(hint.dtypes[0]) if isinstance(hint.dtypes, list | tuple) else "float"
    values = np.full(sizes, 0.5) if "float" in kind or "complex" in kind else np.ones(sizes, int)
    values = values.astype(bool) if "bool" in kind else values.astype(np.uint8) if "uint8" in kind else values
    if isinstance(hint.array_type, type) and issubclass(hint.array_type, torch.Tensor):
        tensor = torch.from_numpy(values)
        return tensor.float() if tensor.is_floating_point() else tensor
    return values


def wrong(value):
    """Return what may be given in place of a good value."""
    values = [*UNTYPED, *NUMBERS, np.zeros(0), np.full((3, 3), np.nan), np.array(["a", "b"]), torch.full((2, 5), 1e30)]
    if isinstance(value, np.ndarray | torch.Tensor) and value.dtype != object:
        plain = np.asarray(value)
        shapes = [plain[None], plain[..., None]]
        shapes += [plain[:0], np.repeat(plain, 2, 0), np.repeat(plain, 2, -1)] if plain.ndim else []
        numbers = plain.astype(float)
        numeric = [numbers + np.nan, numbers + np.inf, numbers + 1e300, numbers.astype(complex), plain.astype(object)]
        numeric += [np.full(plain.shape, -7), np.full(plain.shape, 10**9), plain.astype(np.float16)]
        values += shapes + numeric
        if isinstance(value, torch.Tensor):
            values += [torch.as_tensor(a) for a in (*shapes, *numeric) if a.dtype != object]
            values += [value.double(), value.to("meta"), value.to_sparse() if value.ndim else value]
        else:
            values += [torch.as_tensor(value), value.tolist(), np.asfortranarray(value).T, value.astype(np.float32)]
    if type(value) in (list, tuple):
        values += [type(value)([item]) for item in UNTYPED] + [type(value)([item] * len(value)) for item in NUMBERS]
    return values


def campaign():
    """Return all calls: the name of what is called, the wrong argument, and the number of what is given for it."""
    calls = []
    for name, (thing, method) in callables().items():
        function = getattr(thing, method) if method else thing
        dims = {}
        try:
            base = arguments(function, dims)
        except Exception:
            base = {}
        for argument in parameters(function):
            calls += [(name, argument, number) for number in range(len(wrong(base.get(argument, 0))))]
    return calls


def call(name, *wrongs):
    """Make one call; return what came of it: ``"taken"``, the error's kind, and whether it names an argument.

    After the name come wrong arguments, each with the number of what is given for it.
    """
    thing, method = callables()[name]
    dims = {}
    try:
        function = thing if method is None else getattr(prepared(thing, method, dims), method)
        given = arguments(function, dims)
    except Exception as error:
        return "no good call", repr(error)[:200]
    changed = dict(zip(wrongs[::2], wrongs[1::2], strict=True))
    given |= {argument: wrong(given.get(argument, 0))[number] for argument, number in changed.items()}
    try:
        function(**given)
    except EXCUSED as error:
        return "excused", repr(error)[:200]
    except Exception as error:
        said = " ".join([str(error), *getattr(error, "__notes__", ())])
        if re.search(r"\bcall \w+ (first|before)", said):
            return "excused", said
        names = {*parameters(function), *parameters(thing)}
        named = any(re.search(rf"\b{re.escape(parameter)}\b", said, re.IGNORECASE) for parameter in names)
        kind = type(error).__name__
        return (
            "named" if named else "unnamed"
        ), f"{kind}: {said[:200]} [{', '.join(shown(given[parameter]) for parameter in changed)}]"
    return "taken", ""


def prepared(cls, method, dims):
    """Return an instance on which what comes before a method was called."""
    instance = cls(**arguments(cls, dims))
    for name in BEFORE:
        before = getattr(instance, name, None)
        if before is not None and name != method:
            with contextlib.suppress(Exception):
                before(**arguments(before, dims))
    return instance


def shown(value):
    if isinstance(value, np.ndarray | torch.Tensor):
        return f"{type(value).__name__} {tuple(value.shape)} {value.dtype}"
    return repr(value)[:40]


def serve(calls, folder):
    """Make calls one after another, and say before and after each what it is."""
    os.chdir(folder)
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEGABYTES * 2**20, MEGABYTES * 2**20))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for number, parts in calls:
        out.write(f"{number}\n")
        out.flush()
        # Unhandled, either ends the process, wherever it is. On busy cores the time of the processor is what counts.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(WAITING)
        said = call(*parts)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        out.write(json.dumps([number, *said]) + "\n")
        out.flush()


def answers(calls, folder):
    """Return what came of each call; a process that dies is followed by another, after the call that it died of."""
    outcomes, left = {}, dict(enumerate(calls))
    while left:
        todo = Path(folder) / "todo.json"
        todo.write_text(json.dumps(sorted(left.items())))
        command = [sys.executable, "-W", "ignore", __file__, str(todo), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = None
        for line in done.stdout.splitlines():
            answer = json.loads(line)
            last = answer if isinstance(answer, int) else None
            if last is None:
                outcomes[answer[0]] = tuple(answer[1:])
                left.pop(answer[0], None)
        if last is not None:
            how = "hangs" if done.returncode in (-signal.SIGALRM, -signal.SIGPROF) else "crashes"
            outcomes[last] = how, f"exit {done.returncode} {done.stderr[-300:]}"
            left.pop(last)
        elif done.returncode:
            raise RuntimeError(done.stderr)
    return [(calls[number], *outcomes[number]) for number in sorted(outcomes)]


def test_a_wrong_argument_is_named(tmp_path, effort):
    calls = campaign()
    assert len(calls) > 10_000
    if effort == 1:
        calls = random.Random(0).sample(calls, SAMPLE)
    outcomes = answers(calls, tmp_path)
    count = Counter(how for _, how, _ in outcomes)
    worst = [outcome for outcome in outcomes if outcome[1] in ("crashes", "hangs")]
    assert not worst, worst
    errors = count["named"] + count["unnamed"]
    unnamed = [outcome for outcome in outcomes if outcome[1] == "unnamed"]
    assert errors > len(calls) / 4
    assert count["named"] >= (0.99 if effort > 1 else 0.96) * errors, (count, unnamed)


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
