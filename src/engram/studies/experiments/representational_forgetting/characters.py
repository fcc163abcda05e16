"""Tasks of handwritten characters from alphabets for training, validation or test."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from engram.analysis import ProbedTask
from engram.tasks import synthetic_glyphs
from engram.tasks.data import load

Characters = Literal["omniglot-small", "omniglot", "glyphs"]
Role = Literal["train", "validation", "test"]
Alphabet = Float[Tensor, "characters drawings 1 side side"]

VALIDATION = ("Ojibwe", "Sanskrit", "Syriac_(Estrangelo)", "Tagalog", "Tifinagh")
TESTED = ("Balinese", "Early_Aramaic", "Latin")  # from the small sets, which have no test part
TRAIN_DRAWINGS = 15
GLYPHS = 8  # characters in a synthetic alphabet


def alphabets(
    characters: Characters, size: int, rotations: bool, generator: torch.Generator
) -> dict[Role, list[Alphabet]]:
    """The alphabets of each role, with ink 1 and paper 0.

    Args:
        characters: The set of characters.
        size: Side of the images in pixels.
        rotations: Whether training alphabets appear in four orientations, which count as different characters.
        generator: Draws synthetic characters.
    """
    alphabets: dict[Role, list[Alphabet]] = {"train": [], "validation": [], "test": []}
    if characters == "glyphs":
        for of_role in alphabets.values():
            of_role += [synthetic_glyphs(GLYPHS, 20, generator, size)[:, :, None] for _ in range(2)]
    elif characters == "omniglot":
        for name, alphabet in _read("omniglot", size=size, split="background").items():
            alphabets["validation" if name in VALIDATION else "train"].append(alphabet)
        alphabets["test"] = list(_read("omniglot", size=size, split="evaluation").values())
    else:
        for name, alphabet in _read("omniglot-small", size=size).items():
            role: Role = "validation" if name in VALIDATION else "test" if name in TESTED else "train"
            alphabets[role].append(alphabet)
    if rotations:
        alphabets["train"] = [alphabet.rot90(turns, (3, 4)) for turns in range(4) for alphabet in alphabets["train"]]
    return alphabets


def _read(name: str, **options: object) -> dict[str, Alphabet]:
    images, names = load(name, **options)
    ink = 1 - torch.from_numpy(images).float()[:, :, None] / 255
    numbers_of: dict[str, list[int]] = {}
    for number, character in enumerate(names):
        numbers_of.setdefault(character.partition("/")[0], []).append(number)
    return {alphabet: ink[numbers] for alphabet, numbers in numbers_of.items()}


def draw_tasks(pool: list[Alphabet], ways: int, count: int, generator: torch.Generator) -> list[ProbedTask]:
    """Tasks with disjoint characters, from different alphabets as long as there are enough.

    Args:
        pool: The alphabets.
        ways: Characters per task.
        count: Number of tasks.
        generator: Draws the characters.

    Raises:
        ValueError: There are too few characters for the tasks.
    """
    groups = [torch.split(torch.randperm(len(alphabet), generator=generator), ways) for alphabet in pool]
    order = torch.randperm(len(pool), generator=generator).tolist()
    largest_group = max(len(group) for group in groups)
    candidates = [
        (number, groups[number][turn])
        for turn in range(largest_group)
        for number in order
        if turn < len(groups[number])
    ]
    full_groups = [(number, group) for number, group in candidates if len(group) == ways][:count]
    if len(full_groups) < count:
        raise ValueError(
            f"{count} tasks of {ways} characters: expected enough characters, found them for {len(full_groups)}"
        )
    return [_task(pool[number][group]) for number, group in full_groups]


def _task(images: Alphabet) -> ProbedTask:
    """The task of classifying characters, with the first fifteen drawings of each for training, the others for test."""
    data_sets = []
    for drawings in (images[:, :TRAIN_DRAWINGS], images[:, TRAIN_DRAWINGS:]):
        labels = torch.arange(len(drawings)).repeat_interleave(drawings.shape[1])
        data_sets.append((drawings.flatten(0, 1).contiguous(), labels))
    return ProbedTask(*data_sets)
