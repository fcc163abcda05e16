"""Everything in README and docs that shows results, generated from the run records under ``results/``.

``python docs/results.py --record`` writes the records of the last runs and all that follows from them;
without ``--record`` it only writes what follows from the records that are there. ``--release``, called before a version
is tagged, adds the verdicts of today to ``results/versions.json``, from which the gallery shows what changed.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import sys
import textwrap
from collections import Counter
from pathlib import Path
from statistics import mean
from typing import Any

from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

import engram
from engram.lab import Results, export, load
from engram.lab.claim import OWNERS
from engram.lab.experiment import scale
from engram.lab.figures import figures_of, learning_curves
from engram.lab.monitor import duration
from engram.lab.records import from_record, is_current
from engram.storage.files import write_atomic, write_json
from engram.verdicts import counted

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "results"
CAMPAIGNS = RECORDS / "campaigns.json"
VERSIONS = RECORDS / "versions.json"
VERDICTS = ROOT / "src" / "engram" / "experiments" / "verdicts.json"
SECONDS = VERDICTS.with_name("seconds.json")
PRESET = "laptop"
README_FIGURE = "pattern-completion"
THUMBNAIL = (360, 220)


def record_path(name: str, preset: str = PRESET) -> Path:
    """Return where the record of an experiment's preset is kept."""
    return RECORDS / f"{name}-{preset}.json"


def as_text(record: dict[str, Any]) -> str:
    """Return a record as JSON with one line for each trial's curve, so that differences can be read."""
    text = json.dumps(record, indent=1)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text) + "\n"


def records(name: str) -> dict[str, dict[str, Any]]:
    """Read the records of an experiment as they are stored, by preset."""
    paths = {preset: record_path(name, preset) for preset in engram.registry.get("experiments", name).presets}
    return {preset: json.loads(path.read_text()) for preset, path in paths.items() if path.exists()}


def waits(name: str) -> str:
    """Why an experiment has no verdicts."""
    return "changed since its record, to be run again" if records(name) else "not recorded yet"


def recorded(name: str) -> dict[str, Results]:
    """Read the records of an experiment, by preset; one of arms that have changed since tells nothing of these."""
    experiment = engram.registry.get("experiments", name)
    current = {preset: record for preset, record in records(name).items() if is_current(name, record)}
    return {preset: from_record(experiment, record) for preset, record in current.items()}


def claims_table(results: Results) -> str:
    """Return the claims of a run as a Markdown table."""
    interval, up_to = ("interval", "up to ") if results.looks else ("95 % interval", "")
    rows = [f"| Claim | Published | Criterion | Ours, {interval} | Seeds | Verdict |", "|---|---|---|---|---|---|"]
    for judged in results.claims():
        claim = judged.claim
        ours = f"{judged.ours:.4f} {judged.bounds('.4f')}"
        ours = ours if math.isfinite(judged.ours) else ""
        resolved = "" if math.isnan(judged.resolution) else f", resolve {judged.resolution:.2g}"
        at_look = f", look {judged.look}" if judged.look else ""
        why = "; ".join([judged.why] * bool(judged.why) + results.caveats(claim))
        verdict = f"**{judged.verdict}**" + (f" ({why})" if why else "")
        rows.append(
            f"| {claim.statement} | {claim.published} | {claim.criterion} ({OWNERS[claim.threshold]}) | {ours} "
            f"| {len(judged.values)}{at_look}{resolved} | {verdict} |"
        )
    option = "" if results.preset == PRESET else f" --preset {results.preset}"
    option += " --until-decided" if results.looks else ""
    versions, hardware = results.environment["versions"], results.environment["hardware"]
    rows += [
        "",
        f"`engram run {results.experiment}{option}`, preset {results.preset}, {up_to}{results.seeds} seeds; "
        f"engram {versions['engram']}, Python {versions['python']}, torch {versions['torch']}; "
        f"{hardware['processor']}, {hardware['cores']} cores; {duration(results.seconds)} of computing on one core. "
        + results.family(),
    ]
    return "\n".join(rows)


def summary_table() -> str:
    """Return every experiment of the registry with its verdicts, as a Markdown table."""
    rows = ["| Experiment | What it tests | Verdicts on its claims |", "|---|---|---|"]
    for name in engram.experiments():
        cells = []
        for preset, results in recorded(name).items():
            count = counted(Counter(judged.verdict for judged in results.claims()))
            cells.append(f"{count} at laptop scale" if preset == PRESET else f"preset {preset}: {count}")
        link = f"[{name}](results/{record_path(name).name})" if cells else name
        summary = engram.registry.get("experiments", name).summary
        rows.append(f"| {link} | {summary} | {'; '.join(cells) or waits(name)} |")
    return "\n".join(rows)


def readme_block() -> str:
    """Return the generated part of the README: every experiment in a line, and one of them whole."""
    return "\n\n".join(
        [
            summary_table(),
            f"The claims of all of them, with figures, are in the gallery of the documentation (`make docs`); "
            f"here those of {README_FIGURE} ({engram.registry.get('experiments', README_FIGURE).paper}):",
            claims_table(recorded(README_FIGURE)[PRESET]),
        ]
    )


def campaigns_block() -> str:
    """Return what came of the last campaigns of kills, of wrong calls and of sequences, as a paragraph."""
    found = json.loads(CAMPAIGNS.read_text())
    kills, calls, sequences = found["kills"], found["calls"], found["sequences"]
    errors = calls["named"] + calls["unnamed"]
    text = (
        f"{kills['kills']:,} kills at random moments of {kills['runs']} runs of {kills['experiments']} experiments "
        f"({kills['date']}): {kills['differences']} differences from runs that nobody killed, {kills['crashes']} "
        f"crashes. {calls['calls']:,} wrong calls of {calls['functions']} functions and methods ({calls['date']}): "
        f"{calls.get('crashes', 0)} crashes, {calls.get('hangs', 0)} that hang, and {calls['named'] / errors:.1%} of "
        f"{errors:,} errors name the argument. {sequences['sequences']:,} random sequences of training by "
        f"{sequences['parts']} learning rules and continual methods, with layers frozen between steps, with shared "
        f"weights, in eight threads at once, and with states of other networks ({sequences['date']}): "
        f"{sequences.get('differences', 0)} differences, {sequences.get('crashes', 0)} crashes; {sequences['refused']} "
        "were refused by name."
    )
    if "hostile" in found:
        hostile = found["hostile"]
        text += (
            f" {hostile['attacks']:,} files damaged, swapped or forged in {hostile['runs']:,} folders of runs "
            f"({hostile['date']}): {hostile['differences']} wrong numbers, {hostile['crashes']} crashes, "
            f"{hostile['hangs']} that hang."
        )
    if "torch" in found:
        text += (
            f" {found['torch']['runs']} runs of {found['torch']['experiments']} experiments where the caller has "
            f"set up torch otherwise ({found['torch']['date']}): {found['torch']['differences']} differences."
        )
    if "edits" in found:
        edits = found["edits"]
        text += (
            f" {edits['edits']} files of the library edited one after another ({edits['date']}): {edits['reused']} "
            f"results reused, {edits['differences']} of them another number than the edited code gives."
        )
    return "\n".join(textwrap.wrap(text, 120)) + "\n"


def with_block(text: str, block: str) -> str:
    """Return ``text`` with what stands between its results markers replaced."""
    replaced, count = re.subn(
        r"(<!-- results: begin[^>]*-->\n)(?:.*?\n)?(<!-- results: end -->)",
        lambda match: f"{match[1]}{block}\n{match[2]}",
        text,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"found {count} results blocks, expected 1")
    return replaced


def verdicts() -> dict[str, dict[str, dict[str, int]]]:
    """Return how many claims of each experiment have each verdict, by recorded preset: what `engram list` shows."""
    return {
        name: {
            preset: dict(Counter(judged.verdict for judged in run.claims())) for preset, run in recorded(name).items()
        }
        for name in engram.experiments()
    }


def verdicts_by_claim() -> dict[str, dict[str, str]]:
    """Return the verdict on each claim of each experiment at laptop scale."""
    runs = {name: of_preset[PRESET] for name in engram.experiments() if PRESET in (of_preset := recorded(name))}
    return {name: {judged.claim.id: judged.verdict for judged in run.claims()} for name, run in runs.items()}


def released() -> dict[str, dict[str, dict[str, str]]]:
    """Return the verdicts on claims of each released version, the oldest first."""
    return dict(json.loads(VERSIONS.read_text()))


def last_release() -> str | None:
    """Return the last version that was released before this one; None if there is none."""
    return next((version for version in reversed(released()) if version != engram.__version__), None)


def changed_since(version: str) -> list[tuple[str, str, str, str]]:
    """Return the claims whose verdicts differ: experiment, claim, verdict then and verdict now, empty where none is."""
    then, now = released()[version], verdicts_by_claim()
    both = [
        (name, claim, then.get(name, {}).get(claim, ""), now.get(name, {}).get(claim, ""))
        for name in dict.fromkeys([*now, *then])
        for claim in dict.fromkeys([*now.get(name, {}), *then.get(name, {})])
    ]
    return [row for row in both if row[2] != row[3]]


def seconds() -> dict[str, dict[str, list[float]]]:
    """How long a trial of each arm took at laptop size, and the settings that this is proportional to, multiplied."""
    return {
        name: {
            arm: [
                round(mean(trial.seconds for trial in of_preset[PRESET].trials if trial.arm == arm), 1),
                scale(config),
            ]
            for arm, config in of_preset[PRESET].configs.items()
        }
        for name in engram.experiments()
        if PRESET in (of_preset := recorded(name))
    }


def figure_path(name: str) -> Path:
    """Return where the picture of an experiment's learning curves is kept."""
    return ROOT / "docs" / "images" / f"{name}.svg"


def figure_mark(name: str) -> str:
    """Return the comment by which a picture says from which record it was drawn."""
    return f"<!-- drawn from record {hashlib.sha256(record_path(name).read_bytes()).hexdigest()} -->"


def draw(name: str) -> None:
    """Draw an experiment's learning curves as SVG."""
    results = recorded(name)[PRESET]
    figure = learning_curves(results, results.headline)
    below = {"orientation": "h", "y": -0.2}  # where names that a browser draws wider are not cut off
    figure.update_layout(font_family="sans-serif", margin={"t": 50, "r": 20}, legend=below)
    text = export.draw({name: figure}, "svg")[name].decode()
    figure_path(name).parent.mkdir(exist_ok=True)
    write_atomic(figure_path(name), f"{text}\n{figure_mark(name)}\n".encode())


def thumbnail_path(name: str) -> Path:
    """Return where the picture of an experiment for the gallery is kept."""
    return ROOT / "docs" / "images" / "gallery" / f"{name}.png"


def thumbnail_is_current(name: str) -> bool:
    """Whether a picture for the gallery was drawn from the record that there is."""
    if not (path := thumbnail_path(name)).exists():
        return False
    with Image.open(path) as picture:
        return bool(picture.info.get("record") == figure_mark(name))


def draw_thumbnails() -> None:
    """Draw the tops of experiments' own figures, small, where they are not those of the records."""
    figures = {}
    for name in engram.experiments():
        if PRESET in (of_preset := recorded(name)) and not thumbnail_is_current(name):
            figure = figures_of(engram.registry.get("experiments", name), of_preset[PRESET])["figure"]
            figures[name] = figure.update_layout(title=None, showlegend=False, margin={"t": 30, "r": 20, "b": 50})
    for name, png in (export.draw(figures, "png") if figures else {}).items():
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        width, height = THUMBNAIL
        top = picture.crop((0, 0, picture.width, min(picture.height, picture.width * height // width)))
        small = ImageOps.pad(top.resize((width, top.height * width // top.width)), THUMBNAIL, color="white")
        content, mark = io.BytesIO(), PngInfo()
        mark.add_text("record", figure_mark(name))
        small.quantize(64).save(content, "PNG", pnginfo=mark, optimize=True)
        thumbnail_path(name).parent.mkdir(exist_ok=True)
        write_atomic(thumbnail_path(name), content.getvalue())


def main() -> None:
    """Write records if asked to, and everything that follows from them."""
    if "--record" in sys.argv[1:]:
        for name in engram.experiments():
            try:
                results = load(name)
            except ValueError as error:
                print(f"no record: {error}")
                continue
            if results.preset == "smoke" or results.changed or {t.state for t in results.trials} != {"finished"}:
                print(f"no record: the last run of {name} is not a whole run of {PRESET} size or larger")
                continue
            write_atomic(record_path(name, results.preset), as_text(results.record()).encode())
    if "--release" in sys.argv[1:]:
        write_json(VERSIONS, {**released(), engram.__version__: verdicts_by_claim()})
    write_json(VERDICTS, verdicts())
    write_atomic(SECONDS, as_text(seconds()).encode())
    for page, block in (
        (ROOT / "README.md", readme_block()),
        (ROOT / "docs" / "reliability.md", campaigns_block()),
    ):
        write_atomic(page, with_block(page.read_text(), block).encode())
    draw(README_FIGURE)
    draw_thumbnails()


if __name__ == "__main__":
    main()
