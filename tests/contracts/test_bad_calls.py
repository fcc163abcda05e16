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

from engram.agents import HashCounts
from engram.analysis.verify import AffineReLU, Argmax, Box
from engram.memory import HebbHopfield

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
}  # fmt: skip
BEFORE = ("reset", "fit", "ask", "store")
# What may be said without the name of an argument: that there is no such file or no such optional package.
EXCUSED = (FileNotFoundError, ImportError, NotImplementedError, NotFittedError, ResetNeeded)
UNTYPED = (None, "x", b"x", object(), {}, [], [[1], [2, 3]], (), lambda: 0, 1j, True)
NUMBERS = (-1, 0, 1, 7, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.5, 1e-320, 1e308, float("nan"), float("inf"))


@functools.cache
def callables():
    """Return every public function, and every class with its public methods, by name."""
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(f"engram.{package}")
        for name in module.__all__:
            thing = getattr(module, name)
            kinds = BaseException | enum.Enum
            if inspect.isclass(thing) and (issubclass(thing, kinds) or inspect.isabstract(thing) or is_protocol(thing)):
                continue
            if callable(thing) and getattr(thing, "__module__", "").startswith("engram."):
                found[f"{thing.__module__}.{name}"] = (thing, None)
                for method in public_methods(thing) if inspect.isclass(thing) else ():
                    found[f"{thing.__module__}.{name}.{method}"] = (thing, method)
    return dict(sorted(found.items()))


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
    return {name: MADE[name]() if name in MADE else good(hint, dims, depth) for name, hint in required.items()}


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
        kinds = [hint, *(one for one, _ in callables().values() if inspect.isclass(one) and derives(one, hint))]
        kind = next((k for k in kinds if not inspect.isabstract(k) and not is_protocol(k)), hint)
        return kind(**arguments(kind, dims, depth + 1))
    return 3


def derives(one, hint):
    try:
        return issubclass(one, hint)
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
        found = torch.from_numpy(values)
        return found.float() if found.is_floating_point() else found
    return values


def wrong(value):
    """Return what may be given in place of a good value."""
    found = [*UNTYPED, *NUMBERS, np.zeros(0), np.full((3, 3), np.nan), np.array(["a", "b"]), torch.full((2, 5), 1e30)]
    if isinstance(value, np.ndarray | torch.Tensor) and value.dtype != object:
        plain = np.asarray(value)
        shapes = [plain[None], plain[..., None]]
        shapes += [plain[:0], np.repeat(plain, 2, 0), np.repeat(plain, 2, -1)] if plain.ndim else []
        numbers = plain.astype(float)
        numeric = [numbers + np.nan, numbers + np.inf, numbers + 1e300, numbers.astype(complex), plain.astype(object)]
        numeric += [np.full(plain.shape, -7), np.full(plain.shape, 10**9), plain.astype(np.float16)]
        found += shapes + numeric
        if isinstance(value, torch.Tensor):
            found += [torch.as_tensor(a) for a in (*shapes, *numeric) if a.dtype != object]
            found += [value.double(), value.to("meta"), value.to_sparse() if value.ndim else value]
        else:
            found += [torch.as_tensor(value), value.tolist(), np.asfortranarray(value).T, value.astype(np.float32)]
    if type(value) in (list, tuple):
        found += [type(value)([one]) for one in UNTYPED] + [type(value)([one] * len(value)) for one in NUMBERS]
    return found


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
        named = any(re.search(rf"\b{re.escape(one)}\b", said, re.IGNORECASE) for one in names)
        kind = type(error).__name__
        return (
            "named" if named else "unnamed"
        ), f"{kind}: {said[:200]} [{', '.join(shown(given[one]) for one in changed)}]"
    return "taken", ""


def prepared(cls, method, dims):
    """Return an instance on which what comes before a method was called."""
    one = cls(**arguments(cls, dims))
    for name in BEFORE:
        before = getattr(one, name, None)
        if before is not None and name != method:
            with contextlib.suppress(Exception):
                before(**arguments(before, dims))
    return one


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
    for number, one in calls:
        out.write(f"{number}\n")
        out.flush()
        # Unhandled, either ends the process, wherever it is. On busy cores the time of the processor is what counts.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(WAITING)
        said = call(*one)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        out.write(json.dumps([number, *said]) + "\n")
        out.flush()


def answers(calls, folder):
    """Return what came of each call; a process that dies is followed by another, after the call that it died of."""
    found, left = {}, dict(enumerate(calls))
    while left:
        todo = Path(folder) / "todo.json"
        todo.write_text(json.dumps(sorted(left.items())))
        command = [sys.executable, "-W", "ignore", __file__, str(todo), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = None
        for line in done.stdout.splitlines():
            told = json.loads(line)
            last = told if isinstance(told, int) else None
            if last is None:
                found[told[0]] = tuple(told[1:])
                left.pop(told[0], None)
        if last is not None:
            how = "hangs" if done.returncode in (-signal.SIGALRM, -signal.SIGPROF) else "crashes"
            found[last] = how, f"exit {done.returncode} {done.stderr[-300:]}"
            left.pop(last)
        elif done.returncode:
            raise RuntimeError(done.stderr)
    return [(calls[number], *found[number]) for number in sorted(found)]


def test_a_wrong_argument_is_named(tmp_path, effort):
    calls = campaign()
    assert len(calls) > 10_000
    if effort == 1:
        calls = random.Random(0).sample(calls, SAMPLE)
    found = answers(calls, tmp_path)
    count = Counter(how for _, how, _ in found)
    worst = [one for one in found if one[1] in ("crashes", "hangs")]
    assert not worst, worst
    errors = count["named"] + count["unnamed"]
    unnamed = [one for one in found if one[1] == "unnamed"]
    assert errors > len(calls) / 4
    assert count["named"] >= (0.99 if effort > 1 else 0.96) * errors, (count, unnamed)


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
