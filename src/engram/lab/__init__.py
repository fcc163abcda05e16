"""The laboratory: trials with exact resume, seeds, claims, reports. It is independent of any learner or task."""

from engram import extras

try:
    from engram.lab.claim import Claim, JudgedClaim, claims_from, judge_claim
    from engram.lab.config import setting, settings
    from engram.lab.contract import Run
    from engram.lab.experiment import Arm, Experiment, Preset, Study, Task
    from engram.lab.figures import Grid, Heatmap, Lines, Points, Profiles
    from engram.lab.judging import BestOf, Judgement, best_of, judge
    from engram.lab.laboratory import run
    from engram.lab.last_run import load
    from engram.lab.measure import Criterion, Measure, maximum, met, metric, minimum, share
    from engram.lab.record_files import recorded
    from engram.lab.results import Results, TrialResult
    from engram.lab.sweeps import Range, sweep
    from engram.storage.files import CannotWriteError, CorruptFileError
except ModuleNotFoundError as error:
    raise extras.missing("lab", "engram.lab", error) from error

__all__ = [
    "Arm",
    "BestOf",
    "CannotWriteError",
    "Claim",
    "CorruptFileError",
    "Criterion",
    "Experiment",
    "Grid",
    "Heatmap",
    "JudgedClaim",
    "Judgement",
    "Lines",
    "Measure",
    "Points",
    "Preset",
    "Profiles",
    "Range",
    "Results",
    "Run",
    "Study",
    "Task",
    "TrialResult",
    "best_of",
    "claims_from",
    "judge",
    "judge_claim",
    "load",
    "maximum",
    "met",
    "metric",
    "minimum",
    "recorded",
    "run",
    "setting",
    "settings",
    "share",
    "sweep",
]
