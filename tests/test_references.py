from __future__ import annotations

import pytest

from engram import references
from engram.studies.experiments import associative_memories, optimizers


@pytest.mark.parametrize(
    ("reference", "part"),
    [
        (optimizers.OPTIMIZERS["momentum"], optimizers.momentum),
        (associative_memories.MEMORIES["cue"], associative_memories.Cue),
    ],
)
def test_places_in_the_settings_of_records_stay_valid(reference, part):
    """The hash of its settings names a trial, so that a part is called what it was when the records were made."""
    assert reference.startswith("engram.experiments.")
    assert references.load(reference) is part
    assert references.place_of(reference) == reference.replace("engram.", "engram.studies.", 1)
