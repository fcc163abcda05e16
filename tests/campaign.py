"""Campaigns against the library, longer than any test.

``python tests/campaign.py kills 1000`` runs every experiment at size ``smoke``, kills the run with all its processes at
random moments and starts it again, until it ends by itself; then all that it wrote is compared with what it writes when
nobody kills it. ``python tests/campaign.py hostile 1000`` damages, swaps and forges files of a run and runs it again.
``python tests/campaign.py torch 100`` runs every experiment where the caller has set up torch otherwise.
``python tests/campaign.py calls 100000`` calls every public function with one wrong argument, or two.
``python tests/campaign.py sequences 2000`` trains learning rules and continual methods on random networks by random
sequences of steps, while layers are frozen and thawed, with layers that share weights, in eight threads at once, and
with states of other networks handed in.
All add to ``results/campaigns.json``, from which the documentation quotes.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from itertools import chain, cycle, islice, pairwise, product
from pathlib import Path

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import engram
from engram import registry
from engram.continual import TaskData
from engram.lab import CorruptFileError, Results
from engram.lab.trial.folder import TrialFolder
from engram.rules import train_step
from engram.storage.files import write_sealed
from engram.testing.promises import alike, in_threads, same

RECORD = Path(__file__).parents[1] / "results" / "campaigns.json"
SEED = 18
# Kills of one run, after which it may end: so that those which write no checkpoint for long end too.
MOST = 35
LATEST = 1.5  # seconds after its start at which a run is killed


def written(runs: Path) -> dict[str, object]:
    """Return what trials wrote that does not tell the time: metrics, results and final states, by trial and file."""
    files: dict[str, object] = {}
    for path in sorted(runs.rglob("*")):
        where = f"{path.parent.name}/{path.name}"
        if path.name == "metrics.csv":
            files[where] = path.read_bytes()
        elif path.name == "state.safetensors":  # `safetensors` writes its header in any order
            content = path.read_bytes()
            start = 8 + int.from_bytes(content[:8], "little")
            files[where] = json.loads(content[8:start]), content[start:]
        elif path.name == "result.json":
            content = json.loads(path.read_bytes())
            files[where] = content["result"] | {"seconds": None}, content["metrics"]  # some measure how long they take
    return files


def run(name: str, runs: Path) -> Results:
    """Run the smoke preset of an experiment in this process."""
    torch.set_num_threads(1)
    return engram.run(name, preset="smoke", seeds=1, jobs=1, runs=runs, checkpoint_seconds=0.02, progress=False)


def begun(work: Callable[..., object], *arguments: object) -> int:
    """Start some work in a process of its own, which leads a group of processes; return its number."""
    if child := os.fork():
        with contextlib.suppress(OSError):  # whoever is first: it may be killed before it does so itself
            os.setpgid(child, child)
        return child
    os.setpgid(0, 0)
    code = 70
    try:
        done = work(*arguments)
        code = done if isinstance(done, int) else 0
    except BaseException as error:
        print(f"{arguments}: {error!r}", file=sys.stderr)
    finally:
        os._exit(code)


def ended(child: int, within: float | None) -> int | None:
    """Return how a process ended, or None if it has not within some seconds."""
    until = time.monotonic() + (within or 3600)
    while time.monotonic() < until:
        if (reaped := os.waitpid(child, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(reaped[1])
        time.sleep(0.002)
    return None


def kills(count: int) -> dict[str, object]:
    """Kill runs of all experiments that need no download; return how often, and what was different afterwards."""
    moments, done, tally = random.Random(SEED), 0, Counter()
    names = [name for name in engram.experiments() if offline(name)]
    with tempfile.TemporaryDirectory() as folder:
        whole = {}
        for name in names:
            assert ended(begun(run, name, Path(folder) / "whole" / name), None) == 0, (
                f"{name} fails when nobody kills it"
            )
            whole[name] = written(Path(folder) / "whole" / name)
        for number, name in enumerate(cycle(names)):
            runs = Path(folder) / str(number)
            for attempt in range(MOST + 1):
                child = begun(run, name, runs)
                code = ended(child, moments.uniform(0.0, LATEST) if attempt < MOST else None)
                if code is not None:
                    break
                os.killpg(child, signal.SIGKILL)
                ended(child, None)
                done += 1
            tally["runs"] += 1
            tally["crashes"] += code != 0
            tally["differences"] += written(runs) != whole[name]
            print(f"{done} kills, {name}: {dict(tally)}", flush=True)
            if done >= count:
                break
    return {"kills": done, "experiments": len(names), **tally}


def hostile(count: int) -> dict[str, object]:
    """Do what nobody should to the files of runs; return how often, and how often it was named and did harm."""
    drawn, tally = random.Random(SEED), Counter()
    name = "toy"
    sys.path.insert(0, str(Path(__file__).parent / "third_party"))
    with tempfile.TemporaryDirectory() as folder:
        whole, half, other = (Path(folder) / part for part in ("whole", "half", "other"))
        assert ended(begun(run, name, whole), None) == 0
        assert ended(begun(left_at_its_end, name, half), None) == 0
        for number in range(count):
            runs = shutil.copytree(drawn.choice((whole, half)), Path(folder) / "runs")
            other.write_text("somebody's")
            done = [harm(drawn, runs / name, whole / name, other) for _ in range(drawn.choice((1, 1, 2, 3)))]
            left = other.read_bytes()  # a flip in what is a hard link by now is the attack's own
            child = begun(survived, name, runs, whole)
            code = ended(child, 120)
            if code is None:
                os.killpg(child, signal.SIGKILL)
                ended(child, None)
            tally["attacks"] += len(done)
            tally["runs"] += 1
            tally["named"] += code == NAMED
            tally["hangs"] += code is None
            tally["crashes"] += code not in (0, NAMED, DIFFERENT, None)
            tally["differences"] += code == DIFFERENT or other.read_bytes() != left
            if code not in (0, NAMED) or other.read_bytes() != left:
                print(code, done, flush=True)
            shutil.rmtree(runs)
            if number % 50 == 0:
                print(dict(tally), flush=True)
    return dict(tally)


NAMED, DIFFERENT = 3, 4


def left_at_its_end(name: str, runs: Path) -> None:
    """Run an experiment until its first trial is about to write down its result."""
    TrialFolder.finish = lambda *_: os._exit(0)
    run(name, runs)


def survived(name: str, runs: Path, undamaged: Path) -> int:
    """Load damaged runs and run them again; return ``NAMED`` where damage was named, ``DIFFERENT`` where it shows."""
    expected, _ = shown(engram.load(name, undamaged))
    try:
        before, named = shown(engram.load(name, runs))
    except ValueError as error:  # of the list of trials, or that there is none
        before, named = {}, str(error)
    after, refused = shown(run(name, runs))
    whole = {*after, *(part for part in expected if part.removeprefix("state of ") in refused)} == set(expected)
    if not whole or any(expected[part] != content for part, content in (*before.items(), *after.items())):
        return DIFFERENT
    return NAMED if named else 0


def shown(results: Results) -> tuple[dict[str, object], str]:
    """Return what results show of each arm and of its state, and what they say of files that they refuse."""
    parts, said = {}, ""
    for trial in results.trials:
        said += f"{trial.arm}: {trial.message}\n" if trial.message else ""
        if trial.state == "finished":
            metrics = results.metrics.filter(results.metrics["arm"] == trial.arm).rows()
            parts[trial.arm] = dict(trial.result), metrics
            try:
                tensors = {path: tensor.tolist() for path, tensor in trial.state_dict().items()}
                parts[f"state of {trial.arm}"] = tensors
            except CorruptFileError as error:  # the next run leaves it so, since it costs no result
                said += f"state of {trial.arm}: {error}\n"
    return parts, said


def harm(drawn: random.Random, root: Path, whole: Path, other: Path) -> tuple[str, str]:
    """Damage, swap, forge or replace one file of a run, chosen at random; return which and how."""
    file = drawn.choice([path for path in root.rglob("*") if path.is_file() and not path.is_symlink()])
    kind = drawn.choice(("cut", "flip", "gone", "folder", "pipe", "link", "hard link", "of another", "forged", "stray"))
    content = file.read_bytes()
    if kind == "cut":
        file.write_bytes(content[: drawn.randrange(len(content) + 1)])
    elif kind == "flip" and content:
        place = drawn.randrange(len(content))
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << drawn.randrange(8)]) + content[place + 1 :])
    elif kind == "of another":
        same = [path for path in [*whole.rglob(file.name), *root.rglob(file.name)] if path.is_file()]
        file.write_bytes(drawn.choice([path.read_bytes() for path in same] or [b""]))
    elif kind == "forged" and file.suffix == ".json":
        with contextlib.suppress(ValueError):
            forged = json.loads(content)
            place = drawn.choice(list(forged))
            forged[place] = drawn.choice([None, 1, -1, "..", "plain", [], {}, [[[1]]], True, *forged.values()])
            forged.pop("sha256", None)
            write_sealed(file, forged)
    elif kind == "stray":
        stray = drawn.choice(["checkpoint-x.safetensors", "checkpoint-7.safetensors", "x", ".x.run", "result.json.tmp"])
        (file.parent / stray).write_bytes(content)
    elif kind in ("gone", "folder", "pipe", "link", "hard link"):
        file.unlink()
        if kind == "folder":
            file.mkdir()
        elif kind != "gone":
            {"pipe": lambda _, path: os.mkfifo(path), "link": os.symlink, "hard link": os.link}[kind](other, file)
    return file.name, kind


STATES: dict[str, Callable[[], object]] = {
    "float64": lambda: torch.set_default_dtype(torch.float64),
    "bfloat16": lambda: torch.set_default_dtype(torch.bfloat16),
    "default device": lambda: torch.set_default_device("meta"),
    "device": lambda: torch.device("meta").__enter__(),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16).__enter__(),
    "no_grad": lambda: torch.set_grad_enabled(False),
    "inference": lambda: torch.inference_mode().__enter__(),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "precision": lambda: torch.set_float32_matmul_precision("medium"),
    "denormals": lambda: torch.set_flush_denormal(True),
    "seed": lambda: torch.manual_seed(5),
}


def torch_state(count: int) -> dict[str, object]:
    """Run experiments in random states of torch; return how often, and what was different from runs in its own."""
    drawn, tally = random.Random(SEED), Counter()
    names = [name for name in engram.experiments() if offline(name)]
    with tempfile.TemporaryDirectory() as folder:
        whole: dict[str, object] = {}
        for number, name in enumerate(islice(cycle(names), count)):
            runs = Path(folder) / str(number)
            if name not in whole:
                assert ended(begun(run, name, runs / "whole"), None) == 0
                whole[name] = written(runs / "whole")
            chosen = drawn.sample(list(STATES), drawn.randint(1, 4))
            code = ended(begun(in_state, chosen, name, runs / "other"), None)
            different = written(runs / "other") != whole[name]
            tally["runs"] += 1
            tally["crashes"] += code != 0
            tally["differences"] += different
            print(name, chosen, code, different, dict(tally), flush=True)
            shutil.rmtree(runs)
    return {"experiments": len(whole), **tally}


def in_state(chosen: list[str], name: str, runs: Path) -> None:
    """Run an experiment where the caller has set up torch in some ways."""
    for state in chosen:
        STATES[state]()
    run(name, runs)


def offline(name: str) -> bool:
    """Return whether an experiment has arms at size smoke that need no download."""
    experiment = registry.get("experiments", name)
    try:
        for arm in experiment.arms("smoke").values():
            experiment.check_requirements(arm.config)
    except Exception:
        return False
    return True


def calls(count: int) -> dict[str, object]:
    """Make wrong calls, each of one wrong argument and then random pairs of them; return what came of them."""
    path = Path(__file__).parent / "contracts" / "test_bad_calls.py"
    spec = spec_from_file_location("bad_calls", path)
    assert spec is not None
    assert spec.loader is not None
    bad = module_from_spec(spec)
    sys.modules["bad_calls"] = bad
    spec.loader.exec_module(bad)
    single = bad.campaign()
    of_one: dict[str, list[tuple[str, int]]] = {}
    for name, argument, number in single:
        of_one.setdefault(name, []).append((argument, number))
    wrong, tally, made, called = chain(single, pairs(of_one)), Counter(), 0, set()
    with tempfile.TemporaryDirectory() as folder:
        while made < count:
            for call, how, said in bad.answers(list(islice(wrong, min(5000, count - made))), folder):
                tally[how] += 1
                if how != "no good call":  # of what could not be called rightly no wrong call was made
                    made += 1
                    called.add(call[0])
                if how in ("crashes", "hangs"):
                    print(call, how, said)
            print(made, dict(tally), flush=True)
    return {"calls": made, "functions": len(called), **tally}


def pairs(of_one: dict[str, list[tuple[str, int]]]) -> Iterator[tuple[str, str, int, str, int]]:
    """Draw calls of two wrong arguments, without end."""
    drawn = random.Random(SEED)
    several = [name for name, wrong in of_one.items() if len({argument for argument, _ in wrong}) > 1]
    while True:
        name = drawn.choice(several)
        (one, first), (other, second) = drawn.sample(of_one[name], 2)
        if one != other:
            yield name, one, first, other, second


class Learning:
    """A random network of linear layers in training by a learning rule or a continual method, in random steps."""

    def __init__(self, part: str, draws: random.Random, *, tied: bool = False) -> None:
        kind, name = part.split()
        self.draws, seed = draws, draws.randrange(2**31)
        width = draws.randint(3, 7)
        hidden = [width] * draws.randint(3, 4) if tied else [draws.randint(3, 9) for _ in range(draws.randint(1, 3))]
        generator = torch.Generator().manual_seed(seed)
        layers = []
        for pre, post in pairwise([4, *hidden, 3]):
            layers += [nn.utils.skip_init(nn.Linear, pre, post), nn.Sigmoid() if name == "reinforce" else nn.Tanh()]
            for parameter in layers[-2].parameters():
                nn.init.uniform_(parameter, -0.5, 0.5, generator=generator)
        self.net = nn.Sequential(*layers[:-1])
        self.linear = [module for module in self.net if isinstance(module, nn.Linear)]
        if tied:
            first, second = draws.sample(range(1, len(hidden)), 2)
            self.linear[first].weight = self.linear[second].weight
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.05, momentum=draws.choice([0, 0.9]))
        self.data = torch.randn(24, 4, generator=generator), torch.randint(3, (24,), generator=generator)
        if kind == "learning_rules":
            self.rule, self.method = registry.get(kind, name)(), None
            self.state = self.rule.init(self.net, generator)
        else:
            self.method = registry.get(kind, name)(self.net, generator=generator)
            self.method.attach(self.optimizer)

    def step(self) -> None:
        """Take a step on a batch, or end a task."""
        first = self.draws.randrange(16)
        x, y = (part[first : first + 8] for part in self.data)
        if self.method is None:
            self.state = train_step(self.rule, self.net, self.optimizer, (x, y), self.state).state
            return
        self.optimizer.zero_grad()
        logits = self.net(x)
        loss = nn.functional.cross_entropy(logits, y) + self.method.loss(x, y, logits)
        if loss.requires_grad:
            loss.backward()
        self.optimizer.step()
        if self.draws.random() < 0.2:
            self.method.end_task(TaskData(self.data))

    def own(self) -> object:
        """Return the state of the rule or of the method."""
        return self.state if self.method is None else self.method.state_dict()

    def take(self, state: object) -> None:
        """Go on with a state, for the length of a step at least."""
        if self.method is None:
            x, y = self.data
            self.rule.update(self.net, x, y, state)
            self.state = state
        else:
            self.method.load_state_dict(state)

    def weights(self) -> list[torch.Tensor]:
        """Return copies of all parameters."""
        return [parameter.detach().clone() for parameter in self.net.parameters()]


def frozen(part: str, draws: random.Random) -> str:
    """Freeze and thaw layers between steps; what is frozen stays as it is."""
    learning = Learning(part, draws)
    for _ in range(draws.randint(3, 12)):
        for layer in learning.linear:
            layer.requires_grad_(draws.random() < 0.5)
        draws.choice(learning.linear).requires_grad_(True)  # a method refuses, by name, a network without any
        fixed = [p for p in learning.net.parameters() if not p.requires_grad]
        before = [p.clone() for p in fixed]
        learning.step()
        if not same(before, fixed):
            return "differences"
    return "kept"


def tied(part: str, draws: random.Random) -> str:
    """Let two layers share their weights, which are trained and go on being shared, or refused by a layer's name."""
    try:
        learning = Learning(part, draws, tied=True)
    except TypeError as error:
        return "refused" if "shares weights" in str(error) else "crashes"
    for _ in range(draws.randint(3, 12)):
        learning.step()
    return "kept" if all(weight.isfinite().all() for weight in learning.weights()) else "differences"


def threads(part: str, draws: random.Random) -> str:
    """Run one sequence in eight threads at once: each ends where it ends alone."""
    seed = draws.random()

    def run() -> list[torch.Tensor]:
        own = random.Random(seed)
        learning = Learning(part, own)
        for _ in range(own.randint(3, 12)):
            learning.step()
        return learning.weights()

    alone = run()
    return "kept" if all(same(alone, weights) for weights in in_threads(run)) else "differences"


def mixed(part: str, draws: random.Random) -> str:
    """Hand in the state of another network: it is refused by name, and training goes on as if it had not been."""
    learning, other = Learning(part, draws), Learning(part, draws)
    for each in (learning, other):
        for _ in range(draws.randint(1, 8)):
            each.step()
    shapes = [[getattr(leaf, "shape", ()) for leaf in tree_leaves(each.own())] for each in (learning, other)]
    before, weights = copy.deepcopy(learning.own()), learning.weights()
    try:
        learning.take(other.own())
    except (TypeError, ValueError) as error:
        outcome = "refused" if "state" in str(error) else "crashes"
    else:  # it fits, or holds nothing of a network
        return "fits" if shapes[0] == shapes[1] or not sized(other, learning) else "differences"
    unchanged = alike(before, learning.own()) and same(weights, learning.weights())
    learning.step()
    return outcome if unchanged else "differences"


def sized(other: Learning, learning: Learning) -> bool:
    """Return whether the state of the other network holds a parameter's shape that this one does not have."""
    foreign = {p.shape for p in other.net.parameters()} - {p.shape for p in learning.net.parameters()}
    return any(getattr(leaf, "shape", None) in foreign for leaf in tree_leaves(other.own()))


def sequences(count: int) -> dict[str, object]:
    """Run random sequences of each kind, of one part after another; return how they ended."""
    draws, tally, kinds = random.Random(SEED), Counter(), (frozen, tied, threads, mixed)
    rules = [name for name in registry.names("learning_rules") if not name.startswith(("eprop", "rtrl"))]
    parts = [f"learning_rules {name}" for name in rules]
    parts += [f"continual_methods {name}" for name in registry.names("continual_methods")]
    for number, (part, kind) in enumerate(islice(cycle(product(parts, kinds)), count)):
        try:
            outcome = kind(part, random.Random(seed := draws.randrange(2**31)))
        except Exception as error:
            outcome = "crashes"
            print(f"{kind.__name__}, {part}, seed {seed}: {error!r}", flush=True)
        if outcome == "differences":
            print(f"{kind.__name__}, {part}, seed {seed}: a difference", flush=True)
        tally[outcome] += 1
        tally[kind.__name__] += 1
        if number % 100 == 99:
            print(number + 1, dict(tally), flush=True)
    return {"sequences": count, "parts": len(parts), **tally}


CAMPAIGNS = {
    "kills": kills,
    "hostile": hostile,
    "torch": torch_state,
    "calls": calls,
    "sequences": sequences,
}


def main() -> None:
    """Run a campaign and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign", choices=CAMPAIGNS)
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    outcome = CAMPAIGNS[options.campaign](options.count)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record[options.campaign] = outcome | {"date": datetime.now(UTC).date().isoformat()}
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    print(record[options.campaign])
    sys.exit(bool(outcome.get("crashes", 0) or outcome.get("differences", 0) or outcome.get("hangs", 0)))


if __name__ == "__main__":
    main()
