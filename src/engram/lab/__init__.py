"""The laboratory: trials with exact resume, seeds, claims, reports. It knows no learner and no task."""

from engram import extras

try:
    from engram.lab.claim import Claim, JudgedClaim, at_least, at_most, judge, within
    from engram.lab.config import narrow
    from engram.lab.experiment import Arm, Experiment, Preset, arms_of
    from engram.lab.laboratory import run
    from engram.lab.last_run import load
    from engram.lab.loop import Run
    from engram.lab.measure import Measure, claimed, largest, least, most, share, smallest, value
    from engram.lab.results import Results, TrialResult
    from engram.lab.sweeps import Range, sweep
    from engram.storage.files import CannotWriteError, CorruptFileError
except ModuleNotFoundError as error:
    raise extras.missing("lab", "engram.lab", error) from error

__all__ = [
    "Arm",
    "CannotWriteError",
    "Claim",
    "CorruptFileError",
    "Experiment",
    "JudgedClaim",
    "Measure",
    "Preset",
    "Range",
    "Results",
    "Run",
    "TrialResult",
    "arms_of",
    "at_least",
    "at_most",
    "claimed",
    "judge",
    "largest",
    "least",
    "load",
    "most",
    "narrow",
    "run",
    "share",
    "smallest",
    "sweep",
    "value",
    "within",
]
