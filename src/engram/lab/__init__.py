"""The laboratory: trials with exact resume, seeds, claims, reports. It is independent of any learner or task."""

from engram import extras

try:
    from engram.lab.claims.claim import Claim, JudgedClaim, claims_from, judge_claim
    from engram.lab.claims.measure import Criterion, Measure, maximum, met, metric, minimum, share
    from engram.lab.claims.quantity import MeasuredQuantity, Quantity
    from engram.lab.engine.laboratory import run
    from engram.lab.engine.sweeps import Range, sweep
    from engram.lab.judging import BestOf, Judgement, best_of, judge
    from engram.lab.output.figures import Grid, Heatmap, Lines, Points, Profiles
    from engram.lab.output.read_runs import load
    from engram.lab.output.record_files import recorded
    from engram.lab.output.results import Results, TrialResult
    from engram.lab.trial.config import setting, settings
    from engram.lab.trial.contract import Run
    from engram.lab.trial.experiment import Arm, Experiment, Preset, Study, Task
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
    "MeasuredQuantity",
    "Points",
    "Preset",
    "Profiles",
    "Quantity",
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
