"""Keep the standings that ship with engram after an edit that changes no number.

A shipped result counts as stale as soon as a file that its trial used was edited. ``python docs/renew.py KIND...
[--jobs N]`` compares each of these files with the committed version that has the digest of the record. If their code is
the same (``same_code``), the results stay as they are. All others are run again for their first seed
(``engram.standings.renew``), and those that are the same stay, as do those that differ from what another machine gave
but are what the older code gives on this one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys

from older_code import ROOT, older_code
from same_code import is_same_code

from engram.standings import kinds, recorded, renew
from engram.standings.kinds import tasks_of
from engram.storage.files import write_json

FIRST_VALUES = """
import json, sys
from engram.standings.comparison import first_values
kind, task, jobs, runs = sys.argv[1:]
print(json.dumps(first_values(kind, task, jobs=int(jobs), runs=runs)))
"""


def renew_digests(experiment: str) -> list[str]:
    """Renew the digests of a shipped record if no code has changed since; return the files whose code has.

    Args:
        experiment: Its name.
    """
    record = recorded.all_records()[experiment]
    changed, digests = [], dict(record["manifest"]["files"])
    for name, digest in digests.items():
        path = ROOT / "src" / name
        content = path.read_bytes() if path.is_file() else b""
        digests[name] = hashlib.sha256(content).hexdigest()
        if digests[name] != digest:
            before = committed(f"src/{name}", digest)
            if not before or not content or not is_same_code(before.decode(), content.decode()):
                changed.append(name)
    if not changed:
        record["manifest"]["files"] = digests
        write_json(recorded.TABLE, recorded.all_records())
    return changed


def committed(path: str, digest: str) -> bytes:
    """The content of a file in the latest commit in which it has a digest; empty if there is none."""
    log = subprocess.check_output(["git", "log", "--format=%H", "--", path], cwd=ROOT, text=True)
    for commit in log.split():
        shown = subprocess.run(["git", "show", f"{commit}:{path}"], cwd=ROOT, capture_output=True, check=False)
        if hashlib.sha256(shown.stdout).hexdigest() == digest:
            return shown.stdout
    return b""


def main() -> None:
    """Renew the standings of the kinds named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(kinds.KINDS))
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    with older_code(recorded.TABLE) as (older, environment):
        for kind in options.kinds:

            def previous(task: str, kind: str = kind) -> dict[str, float]:
                arguments = [kind, task, str(options.jobs), str(older / "runs")]
                command = [sys.executable, "-c", FIRST_VALUES, *arguments]
                output = subprocess.check_output(command, env=environment, text=True)
                return dict(json.loads(output.splitlines()[-1]))

            experiments = {experiment.name for experiment, _ in tasks_of(kind)} & {*recorded.all_records()}
            changed = {name: files for name in sorted(experiments) if (files := renew_digests(name))}
            for name, files in changed.items():
                print(f"{name}: the code of {len(files)} files has changed: {', '.join(files[:5])}", flush=True)
            if changed:
                print(kind, "differ:", renew(kind, jobs=options.jobs, previous=previous), flush=True)


if __name__ == "__main__":
    main()
