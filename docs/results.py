"""Everything in README and docs that shows results, generated from the run records under ``results/``.

``python docs/results.py --record`` writes the records of the last runs and everything generated from them; without
``--record`` it only generates everything again from the existing records. ``--release``, called before a version is
tagged, adds the current verdicts to ``results/versions.json``, from which the gallery shows what has changed.
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
from functools import cache
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
THUMBNAIL = (540, 330)  # shown at two thirds of this or less: its letters are large


def record_path(name: str, preset: str = PRESET) -> Path:
    """Return the path of the record of an experiment's preset."""
    return RECORDS / f"{name}-{preset}.json"


def as_text(record: dict[str, Any]) -> str:
    """Return a record as JSON with one line for each trial's curve, so that its diffs are readable."""
    text = json.dumps(record, indent=1)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text) + "\n"


def records(name: str) -> dict[str, dict[str, Any]]:
    """Read the records of an experiment as they are stored, by preset."""
    paths = {preset: record_path(name, preset) for preset in engram.registry.get("experiments", name).presets}
    return {preset: json.loads(path.read_text()) for preset, path in paths.items() if path.exists()}


def waits(name: str) -> str:
    """Return the reason why an experiment has no verdicts."""
    return "changed since its last record and not run again yet" if records(name) else "not recorded yet"


@cache
def recorded(name: str) -> dict[str, Results]:
    """Read the current records of an experiment, by preset; a record of arms that have changed since is left out."""
    experiment = engram.registry.get("experiments", name)
    current = {preset: record for preset, record in records(name).items() if is_current(name, record)}
    return {preset: from_record(experiment, record) for preset, record in current.items()}


def claims_table(results: Results) -> str:
    """Return the claims of a run as a Markdown table."""
    interval, up_to = ("interval", "up to ") if results.looks else ("95 % interval", "")
    header = f"| Claim | Published | Criterion | Ours, {interval} | Seeds, look, distance | Verdict |"
    rows, last_published = [header, "|---|---|---|---|---|---|"], ""
    for judged in results.claims():
        claim = judged.claim
        published = "as above" if claim.published == last_published != "" else claim.published
        last_published = claim.published
        ours = f"{judged.ours:.4f} {judged.bounds('.4f')}"
        ours = ours if math.isfinite(judged.ours) else ""
        resolved = "" if math.isnan(judged.resolution) else f", {judged.resolution:.2g}"
        at_look = f", look {judged.look}" if judged.look else ""
        why = "; ".join([judged.why] * bool(judged.why) + results.caveats(claim))
        verdict = f"**{judged.verdict}**" + (f" ({why})" if why else "")
        rows.append(
            f"| {claim.statement} | {published} | {claim.criterion} ({OWNERS[claim.threshold]}) | {ours} "
            f"| {len(judged.values)}{at_look}{resolved} | {verdict} |"
        )
    option = "" if results.preset == PRESET else f" --preset {results.preset}"
    option += " --until-decided" if results.looks else ""
    versions, hardware = results.environment["versions"], results.environment["hardware"]
    rows += [
        "",
        f"`engram run {results.experiment}{option}`, preset {results.preset}, {up_to}{results.seeds} seeds; "
        f"engram {versions['engram']}, Python {versions['python']}, torch {versions['torch']}; "
        f"{hardware['processor']}, {hardware['cores']} cores; {duration(results.seconds)} of computing time on one "
        "core. The distance is how far from the criterion our value must lie for this number of seeds to decide four "
        "times in five. " + results.family(),
    ]
    return "\n".join(rows)


def summary_table() -> str:
    """Return every experiment of the registry with its verdicts, as a Markdown table."""
    rows = ["| Experiment | What it tests | Verdicts on its claims at laptop scale |", "|---|---|---|"]
    for name in engram.experiments():
        cells = []
        for preset, results in recorded(name).items():
            count = counted(Counter(judged.verdict for judged in results.claims()))
            cells.append(count if preset == PRESET else f"preset {preset}: {count}")
        link = f"[{name}](results/{record_path(name).name})" if cells else name
        summary = engram.registry.get("experiments", name).summary
        rows.append(f"| {link} | {summary} | {'; '.join(cells) or waits(name)} |")
    return "\n".join(rows)


def readme_block() -> str:
    """Return the generated part of the README: a table of all experiments, and the claims of one experiment."""
    return "\n\n".join(
        [
            summary_table(),
            "The gallery of the documentation (`make docs`) shows the claims of all experiments, with figures. These "
            f"are the claims of {README_FIGURE} ({engram.registry.get('experiments', README_FIGURE).paper}):",
            claims_table(recorded(README_FIGURE)[PRESET]),
        ]
    )


def campaigns_block() -> str:
    """Return the results of the last campaigns, as a Markdown list."""
    campaigns = json.loads(CAMPAIGNS.read_text())
    kills, calls, sequences = campaigns["kills"], campaigns["calls"], campaigns["sequences"]
    errors = calls["named"] + calls["unnamed"]
    items = [
        f"Kills ({kills['date']}): {kills['kills']:,} kills at random moments in {kills['runs']} runs of "
        f"{kills['experiments']} experiments; {kills['differences']} differences from uninterrupted runs, "
        f"{kills['crashes']} crashes.",
        f"Wrong calls ({calls['date']}): {calls['calls']:,} wrong calls of {calls['functions']} functions and methods; "
        f"{calls.get('crashes', 0)} crashes, {calls.get('hangs', 0)} hangs. {calls['named'] / errors:.1%} of "
        f"{errors:,} errors name the argument.",
        f"Training ({sequences['date']}): {sequences['sequences']:,} random sequences of training steps with "
        f"{sequences['parts']} learning rules and continual methods, with layers frozen between steps, with shared "
        "weights, in eight threads at once, and with states of other networks; "
        f"{sequences.get('differences', 0)} differences, {sequences.get('crashes', 0)} crashes. "
        f"{sequences['refused']} sequences were refused with an error that names the layer or the state.",
    ]
    if "hostile" in campaigns:
        hostile = campaigns["hostile"]
        items.append(
            f"Damaged files ({hostile['date']}): {hostile['attacks']:,} files damaged, swapped or forged in "
            f"{hostile['runs']:,} folders of runs; {hostile['differences']} wrong numbers, {hostile['crashes']} "
            f"crashes, {hostile['hangs']} hangs."
        )
    if "torch" in campaigns:
        settings = campaigns["torch"]
        items.append(
            f"Settings of torch ({settings['date']}): {settings['runs']} runs of {settings['experiments']} experiments "
            f"after the caller changed torch's settings; {settings['differences']} differences."
        )
    if "edits" in campaigns:
        edits = campaigns["edits"]
        items.append(
            f"Edited code ({edits['date']}): {edits['edits']} files of the library edited, one after another; "
            f"{edits['reused']} results were reused, and {edits['differences']} of them differ from those of the "
            "edited code."
        )
    wrapped = [textwrap.wrap(item, 120, initial_indent="- ", subsequent_indent="  ") for item in items]
    return "\n".join(line for lines in wrapped for line in lines) + "\n"


def with_block(text: str, block: str) -> str:
    """Return ``text`` with the content between its results markers replaced."""
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
    verdicts = [
        (name, claim, then.get(name, {}).get(claim, ""), now.get(name, {}).get(claim, ""))
        for name in dict.fromkeys([*now, *then])
        for claim in dict.fromkeys([*now.get(name, {}), *then.get(name, {})])
    ]
    return [row for row in verdicts if row[2] != row[3]]


def seconds() -> dict[str, dict[str, list[float]]]:
    """Return the seconds of a trial of each arm at laptop size, and the product of the settings they scale with."""
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
    """Return the path of the picture of an experiment's learning curves."""
    return ROOT / "docs" / "images" / f"{name}.svg"


def figure_mark(name: str) -> str:
    """Return the comment in a picture that identifies the record from which it was drawn."""
    return f"<!-- drawn from record {hashlib.sha256(record_path(name).read_bytes()).hexdigest()} -->"


def draw(name: str) -> None:
    """Draw an experiment's learning curves as SVG."""
    results = recorded(name)[PRESET]
    figure = learning_curves(results, results.headline)
    below = {"orientation": "h", "y": -0.2}  # names are not cut off there if a browser draws them wider
    figure.update_layout(font_family="sans-serif", margin={"t": 50, "r": 20}, legend=below)
    text = export.draw({name: figure}, "svg")[name].decode()
    figure_path(name).parent.mkdir(exist_ok=True)
    write_atomic(figure_path(name), f"{text}\n{figure_mark(name)}\n".encode())


def thumbnail_path(name: str) -> Path:
    """Return the path of an experiment's picture for the gallery."""
    return ROOT / "docs" / "images" / "gallery" / f"{name}.png"


def thumbnail_is_current(name: str) -> bool:
    """Return whether an experiment's picture for the gallery was drawn from the existing record."""
    if not (path := thumbnail_path(name)).exists():
        return False
    with Image.open(path) as picture:
        return bool(picture.info.get("record") == figure_mark(name))


def draw_thumbnails() -> None:
    """Draw the pictures for the gallery that are not current: the tops of the experiments' own figures."""
    figures = {}
    for name in engram.experiments():
        if PRESET in (of_preset := recorded(name)) and not thumbnail_is_current(name):
            figure = figures_of(engram.registry.get("experiments", name), of_preset[PRESET], curves=False)["figure"]
            size = {"width": THUMBNAIL[0], "height": max(THUMBNAIL[1], round(0.8 * (figure.layout.height or 0)))}
            figure.update_layout(title=None, showlegend=False, font_size=17, margin={"t": 35, "r": 20, "b": 60}, **size)
            figures[name] = figure.update_annotations(font_size=15)
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


def is_complete(results: Results) -> bool:
    """Whether a run has finished all that its preset asks for: every arm, with at least as many seeds."""
    experiment = engram.registry.get("experiments", results.experiment)
    return (
        results.preset != "smoke"
        and not results.changed
        and {trial.state for trial in results.trials} == {"finished"}
        and set(results.arms) == set(experiment.arms(results.preset))
        and (bool(results.looks) or results.seeds >= experiment.presets[results.preset].seeds)
    )


def main() -> None:
    """Write records if asked to, and everything that is generated from them."""
    if "--record" in sys.argv[1:]:
        for name in engram.experiments():
            try:
                results = load(name)
            except ValueError as error:
                print(f"no record: {error}")
                continue
            if not is_complete(results):
                print(f"no record: the last run of {name} is not a complete run of {PRESET} size or larger")
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
