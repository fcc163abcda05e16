"""Campaigns against the library, longer than any test: kills at any moment, and wrong calls.

``python tests/campaign.py kills 1000`` runs every experiment at size ``smoke``, kills the run with all its processes at
random moments and starts it again, until it ends by itself; then all that it wrote is compared with what it writes when
nobody kills it. ``python tests/campaign.py calls 100000`` calls every public function with one wrong argument, or two.
Both add to ``results/campaigns.json``, which the documentation tells.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from itertools import chain, cycle, islice
from pathlib import Path

import torch

import engram
from engram import registry

RECORD = Path(__file__).parents[1] / "results" / "campaigns.json"
SEED = 18
# Kills of one run, after which it may end: so that those which write no checkpoint for long end too.
MOST = 35
LATEST = 1.5  # seconds after its start at which a run is killed


def written(runs: Path) -> dict[str, object]:
    """Return what trials wrote that does not tell the time: metrics, results and final states, by trial and file."""
    found: dict[str, object] = {}
    for path in sorted(runs.rglob("*")):
        where = f"{path.parent.name}/{path.name}"
        if path.name == "metrics.csv":
            found[where] = path.read_bytes()
        elif path.name == "state.safetensors":  # `safetensors` writes its header in any order
            content = path.read_bytes()
            start = 8 + int.from_bytes(content[:8], "little")
            found[where] = json.loads(content[8:start]), content[start:]
        elif path.name == "result.json":
            content = json.loads(path.read_bytes())
            found[where] = content["result"] | {"seconds": None}, content["metrics"]  # some measure how long they take
    return found


def begun(name: str, runs: Path) -> int:
    """Start a run in a process of its own, which leads a group of processes; return its number."""
    if child := os.fork():
        return child
    os.setpgid(0, 0)
    code = 70
    try:
        torch.set_num_threads(1)
        engram.run(name, preset="smoke", seeds=1, jobs=1, runs=runs, checkpoint_seconds=0.02, progress=False)
        code = 0
    except BaseException as error:
        print(f"{name}: {error!r}", file=sys.stderr)
    finally:
        os._exit(code)


def ended(child: int, within: float | None) -> int | None:
    """Return how a process ended, or None if it has not within some seconds."""
    until = time.monotonic() + (within or 3600)
    while time.monotonic() < until:
        if (found := os.waitpid(child, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(found[1])
        time.sleep(0.002)
    return None


def kills(count: int) -> dict[str, object]:
    """Kill runs of all experiments that need no download; return how often, and what was different afterwards."""
    moments, done, found = random.Random(SEED), 0, Counter()
    names = [name for name in engram.experiments() if offline(name)]
    with tempfile.TemporaryDirectory() as folder:
        whole = {}
        for name in names:
            assert ended(begun(name, Path(folder) / "whole" / name), None) == 0, f"{name} fails when nobody kills it"
            whole[name] = written(Path(folder) / "whole" / name)
        for number, name in enumerate(cycle(names)):
            runs = Path(folder) / str(number)
            for attempt in range(MOST + 1):
                child = begun(name, runs)
                code = ended(child, moments.uniform(0.0, LATEST) if attempt < MOST else None)
                if code is not None:
                    break
                os.killpg(child, signal.SIGKILL)
                ended(child, None)
                done += 1
            found["runs"] += 1
            found["crashes"] += code != 0
            found["differences"] += written(runs) != whole[name]
            print(f"{done} kills, {name}: {dict(found)}", flush=True)
            if done >= count:
                break
    return {"kills": done, "experiments": len(names), **found}


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
    wrong, found, made, called = chain(single, pairs(of_one)), Counter(), 0, set()
    with tempfile.TemporaryDirectory() as folder:
        while made < count:
            for told, how, said in bad.answers(list(islice(wrong, min(5000, count - made))), folder):
                found[how] += 1
                if how != "no good call":  # of what could not be called rightly no wrong call was made
                    made += 1
                    called.add(told[0])
                if how in ("crashes", "hangs"):
                    print(told, how, said)
            print(made, dict(found), flush=True)
    return {"calls": made, "functions": len(called), **found}


def pairs(of_one: dict[str, list[tuple[str, int]]]) -> Iterator[tuple[str, str, int, str, int]]:
    """Draw calls of two wrong arguments, without end."""
    drawn = random.Random(SEED)
    several = [name for name, wrong in of_one.items() if len({argument for argument, _ in wrong}) > 1]
    while True:
        name = drawn.choice(several)
        (one, first), (other, second) = drawn.sample(of_one[name], 2)
        if one != other:
            yield name, one, first, other, second


def main() -> None:
    """Run a campaign and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign", choices=("kills", "calls"))
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    found = {"kills": kills, "calls": calls}[options.campaign](options.count)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record[options.campaign] = found | {"date": datetime.now(UTC).date().isoformat()}
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    print(record[options.campaign])
    sys.exit(bool(found.get("crashes", 0) or found.get("differences", 0) or found.get("hangs", 0)))


if __name__ == "__main__":
    main()
