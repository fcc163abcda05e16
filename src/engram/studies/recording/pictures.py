"""The pictures that are drawn from the records: of the README's experiment, and of each one for the gallery."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from engram import registry
from engram.lab.output import export
from engram.lab.output.figures import figures_of, learning_curves
from engram.lab.output.record_files import Record, as_text
from engram.storage.files import read_json, write_atomic
from engram.studies.recording.tables import PRESET, README_FIGURE, ROOT, RULES, path_of, recorded

IMAGES = ROOT / "docs" / "images"
GUIDES = (RULES, "associative-recall")  # whose own figures a guide shows
THUMBNAIL = (540, 330)  # shown at two thirds of this or less
DRAWN_WIDTH = 800  # before it is made smaller; its letters are large


def figure_path(name: str) -> Path:
    """The path of the picture of an experiment for the README or a guide."""
    return IMAGES / f"{name}.svg"


def figure_mark(name: str) -> str:
    """The comment in a picture that identifies the results from which it was drawn."""
    record = read_json(path_of(name), Record)
    results = as_text(record["arms"]) + record["curves"]
    return f"<!-- drawn from results {hashlib.sha256(results.encode()).hexdigest()} -->"


def figure_is_current(name: str) -> bool:
    """Whether the picture of an experiment was drawn from the existing results."""
    path = figure_path(name)
    return path.exists() and path.read_text(encoding="utf-8").rstrip().endswith(figure_mark(name))


def draw(name: str) -> None:
    """Draw an experiment's learning curves as SVG, or its own figure for a guide."""
    results = recorded(name)[PRESET]
    if name in GUIDES:
        figure = figures_of(registry.get("experiments", name), results, curves=False)["figure"]
        figure.update_layout(font_family="sans-serif", width=1100)
    else:
        figure = learning_curves(results, results.headline)
        below = {"orientation": "h", "y": -0.2}  # names are not cut off there if a browser draws them wider
        figure.update_layout(font_family="sans-serif", margin={"t": 50, "r": 20}, legend=below)
    text = export.draw({name: figure}, "svg")[name].decode()
    figure_path(name).parent.mkdir(exist_ok=True)
    write_atomic(figure_path(name), f"{text}\n{figure_mark(name)}\n".encode())


def thumbnail_path(name: str) -> Path:
    """The path of an experiment's picture for the gallery."""
    return IMAGES / "gallery" / f"{name}.png"


def thumbnail_is_current(name: str) -> bool:
    """Whether an experiment's picture for the gallery was drawn from the existing record."""
    if not (path := thumbnail_path(name)).exists():
        return False
    with Image.open(path) as picture:
        return bool(picture.info.get("record") == figure_mark(name))


def draw_thumbnails() -> None:
    """Draw the pictures for the gallery that are not current: the tops of the experiments' own figures."""
    figures = {}
    for name in registry.experiments():
        if PRESET in (of_preset := recorded(name)) and not thumbnail_is_current(name):
            figure = figures_of(registry.get("experiments", name), of_preset[PRESET], curves=False)["figure"]
            height = max(DRAWN_WIDTH * THUMBNAIL[1] // THUMBNAIL[0], figure.layout.height or 0)
            size = {"width": DRAWN_WIDTH, "height": height, "margin": {"t": 40, "r": 25, "b": 70}}
            figure.update_layout(title=None, showlegend=False, font_size=20, **size)
            figures[name] = figure.update_annotations(font_size=17)
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


def write() -> None:
    """Draw the pictures that are not current."""
    for name in (README_FIGURE, *GUIDES):
        if PRESET in recorded(name) and not figure_is_current(name):
            draw(name)
    draw_thumbnails()
