"""The columns of a table: which of them are the arm, the seed, the step, and one value of each metric for every run."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from engram import checks, registry

ARM, SEED, CLUSTER, STEP, ORDER = "\0arm", "\0seed", "\0cluster", "\0step", "\0order"
ARMS = ("arm", "method", "variant", "model", "algorithm", "algo", "condition", "group", "treatment", "agent", "policy")
SEEDS = ("seed", "random_seed", "rng_seed", "replicate", "repeat", "rep", "trial", "run_number", "fold")
STEPS = ("step", "global_step", "_step", "iteration", "iter", "epoch", "timestep")
METRICS, VALUES = ("metric", "metric_name", "key", "tag", "measure"), ("value", "metric_value", "score")
RUNS = ("run", "file", "run_name", "name", "run_id")  # names of runs, which may tell arm and seed
NAME_OF_RUN = re.compile(r"(?P<arm>.*?)[\s/_.,-]*(?:(?:seed|run|rep|s)[\s_=:-]*)?(?P<seed>\d+)", re.IGNORECASE)
AT = re.compile(r"last|best|mean:[1-9][0-9]*")
SHARE = re.compile(r"share\((?P<key>.+?)(?:, (?P<trials>.+))?\)", re.DOTALL)
MANY = 1000


class Names(NamedTuple):
    """Names of columns that the caller gives; None where they are guessed."""

    arm: str | None = None
    seed: str | None = None
    step: str | None = None
    cluster: str | None = None
    pair: str | None = None


@dataclass(frozen=True)
class Runs:
    """One row for each run: ``ARM``, ``SEED``, perhaps ``CLUSTER``, and the metrics.

    Attributes:
        frame: The rows, ordered by arm, cluster and seed.
        table: The rows of these arms as they were read, for what else differs between them.
        seed: What a run is called.
        cluster: What a cluster is called; empty without clusters.
        said: What was guessed, in sentences.
        used: The columns with a meaning.
    """

    frame: pl.DataFrame
    table: pl.DataFrame
    seed: str
    cluster: str
    said: tuple[str, ...]
    used: frozenset[str]

    @property
    def keys(self) -> list[str]:
        """The columns that tell the runs of an arm apart."""
        return [CLUSTER, SEED] if self.cluster else [SEED]


def runs_of(
    table: pl.DataFrame,
    names: Names,
    metrics: Sequence[str],
    arms: Sequence[str] | None,
    at: str = "last",
    *,
    is_larger_better: bool = True,
) -> Runs:
    """One value of each metric for every run of some arms.

    Args:
        table: The table, wide or long.
        names: The columns that are named.
        metrics: The metrics, among them shares as ``share(key, trials)``.
        arms: The arms (default: all that the table has).
        at: Which value of a curve counts: the ``"last"``, the ``"best"``, or ``"mean:N"`` of the last N.
        is_larger_better: Whether the best value is the largest.

    Raises:
        ValueError: A column, arm, metric or value is not there, or not as it has to be; runs occur twice.
    """
    if not isinstance(at, str) or not AT.fullmatch(at):
        raise ValueError(f"at = {at!r}: expected 'last', 'best' or 'mean:N', as in 'mean:10'")
    if table.is_empty():
        raise ValueError("frame: expected a table with rows, and it is empty")
    said: list[str] = []
    for role, name in zip(Names._fields, names, strict=True):
        if name is not None and name not in table.columns and not (role == "pair" and name == "seed"):
            raise ValueError(f"{role} = {name!r}: {_nearest(name, table.columns, 'column')}")
    is_long = not any(set(_columns_of(metric)) <= set(table.columns) for metric in metrics)
    metric_column, value_column = (_first(of, table.columns) for of in (METRICS, VALUES))
    is_long = is_long and metric_column is not None and value_column is not None
    table, arm = _with_arm(table, names, arms, said)
    table = _only(table, arm, arms)
    seed = names.pair if names.pair not in (None, "seed") else names.seed or _first(SEEDS, table.columns, {arm})
    step = names.step or _first(STEPS, table.columns, {arm, seed})
    taken = {column for column in (arm, seed, step, names.cluster) if column}
    if seed is None and names.pair == "seed":
        raise ValueError(f"pair = 'seed': {_nearest('seed', table.columns, 'column')}; name it with seed")
    if step is not None and names.step is None:
        said.append(f"column {step!r} taken for the step; of a curve the {_words(at)} counts")
    if seed is None:
        said.append("no column names the seed, so every row counts as a run of its own" if step is None else
                    "no column names the seed, so every arm counts as one run")  # fmt: skip
    elif names.seed is None and seed != names.pair:
        said.append(f"column {seed!r} taken for the seed")
    keys = [
        pl.col(arm).cast(pl.String).alias(ARM),
        _seed_column(table, seed, is_curve=step is not None).alias(SEED),
        *([pl.col(names.cluster).cast(pl.String).alias(CLUSTER)] if names.cluster else []),
        *([pl.col(step).alias(STEP)] if step else []),
    ]
    if seed is None and is_long:
        keys[1] = (pl.int_range(pl.len()).over(arm, metric_column) if step is None else pl.lit(0)).alias(SEED)
    of_run = [ARM, *([CLUSTER] if names.cluster else []), SEED]
    missing = next((c for c in (seed, names.cluster) if c and table[c].null_count()), None)
    if missing:
        raise ValueError(f"column {missing!r} is empty in {table[missing].null_count()} rows: expected a value in each")
    reading = at, is_larger_better, (metric_column, value_column) if is_long else None
    frame: pl.DataFrame | None = None
    for metric in metrics:
        one = _metric_of(table, metric, keys, of_run, reading)
        frame = one if frame is None else frame.join(one, on=of_run, how="full", coalesce=True, nulls_equal=True)
    assert frame is not None
    _check_finite(frame, seed or "row")
    if is_long:
        taken |= {str(metric_column), str(value_column)}
        said.append(f"columns {metric_column!r} and {value_column!r} taken for the names and values of metrics")
    used = frozenset(taken | {column for metric in metrics for column in _columns_of(metric)})
    frame = frame.sort(of_run)
    return Runs(frame, table.rename({arm: ARM}), seed or "row", names.cluster or "", tuple(said), used)


def with_pairs(table: pl.DataFrame, names: Names) -> tuple[Names, bool]:
    """The names of columns, and whether runs are paired one by one.

    Where the column of pairs is not that of the seed, as with tasks of several seeds each, its values are clusters, in
    which the means of the arms are compared.

    Args:
        table: The table.
        names: The columns that are named.
    """
    if names.pair is None:
        return names, False
    seed = names.seed or _first(SEEDS, table.columns, {names.arm, names.pair})
    if names.pair in ("seed", seed) or seed is None or names.cluster is not None or names.pair not in table.columns:
        return names, True
    return names._replace(cluster=names.pair, seed=seed, pair=None), False


def _columns_of(metric: str) -> list[str]:
    found = SHARE.fullmatch(metric)
    if not found:
        return [metric]
    trials = found["trials"] or ""
    return [found["key"], *([trials] if trials and not _is_number(trials) else [])]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _first(names: Collection[str], columns: Sequence[str], taken: Collection[str | None] = ()) -> str | None:
    """The first column that is called so, in any case and also as the end of a dotted name."""
    ends = {}
    for column in reversed(columns):
        if column not in taken:
            ends[re.split(r"[./]", column.lower())[-1]] = column
    whole = {column.lower(): column for column in columns if column not in taken}
    return next((whole.get(name) or ends.get(name) for name in names if name in whole or name in ends), None)


def _with_arm(
    table: pl.DataFrame, names: Names, arms: Sequence[str] | None, said: list[str]
) -> tuple[pl.DataFrame, str]:
    """The table with its column of arms: the one that is named or, of those with all arms, the likeliest."""
    if names.arm is not None:
        return table, names.arm
    likely = _first(ARMS, table.columns, {names.seed, names.step, names.cluster})
    others = [
        n for n, kind in table.schema.items() if kind in (pl.String, pl.Categorical, pl.Boolean) or kind.is_integer()
    ]
    order = [*([likely] if likely else []), *(name for name in others if name != likely)]
    for column in order:
        if arms and set(arms) <= set(table[column].cast(pl.String).unique()):
            if column.lower() != "arm":
                said.append(f"column {column!r} taken for the arm")
            return table, column
    if likely is None and (run := _first(RUNS, table.columns)) and table.schema[run] == pl.String:
        found = {value: NAME_OF_RUN.fullmatch(value) for value in table[run].unique() if value is not None}
        if found and all(found.values()) and names.seed is None and _first(SEEDS, table.columns) is None:
            parts = pl.DataFrame(
                [(value, match["arm"], int(match["seed"])) for value, match in found.items() if match],
                schema={run: pl.String, "arm": pl.String, "seed": pl.Int64}, orient="row",
            )  # fmt: skip
            said.append(f"arm and seed read from column {run!r}, as in {next(iter(found))!r}")
            return table.join(parts, on=run, how="left", maintain_order="left"), "arm"
        likely = run
    if likely is None:
        raise ValueError(
            f"arm: no column is called arm or has {', '.join(map(repr, arms or ()))} among its values; name it with "
            f"arm; the columns are {', '.join(table.columns[:20])}"
        )
    if likely.lower() != "arm":
        said.append(f"column {likely!r} taken for the arm")
    return table, likely


def _only(table: pl.DataFrame, arm: str, arms: Sequence[str] | None) -> pl.DataFrame:
    present = {str(value) for value in table[arm].cast(pl.String).unique() if value is not None}
    for name in arms or ():
        if name not in present:
            raise ValueError(f"arm = {name!r}: {_nearest(name, sorted(present), 'arm')} in column {arm!r}")
    return table if arms is None else table.filter(pl.col(arm).cast(pl.String).is_in(list(arms)))


def _seed_column(table: pl.DataFrame, seed: str | None, *, is_curve: bool) -> pl.Expr:
    if seed is None:
        return pl.lit(0) if is_curve else pl.int_range(pl.len())
    kind, column = table.schema[seed], pl.col(seed)
    if kind.is_float() and bool((table[seed].drop_nulls() % 1 == 0).all()):
        return column.cast(pl.Int64)
    if kind == pl.String and bool(table[seed].str.contains(r"^[0-9]{1,15}$").all()):
        return column.cast(pl.Int64)
    return column if kind.is_integer() else column.cast(pl.String)


def _metric_of(
    table: pl.DataFrame,
    metric: str,
    keys: list[pl.Expr],
    of_run: list[str],
    reading: tuple[str, bool, tuple[str | None, str | None] | None],
) -> pl.DataFrame:
    """One value of a metric for each run; of a share also its number of trials."""
    at, is_larger_better, long = reading
    found = SHARE.fullmatch(metric)
    parts = _columns_of(metric)
    one: pl.DataFrame | None = None
    for name in parts:
        if long:
            own = table.filter(pl.col(long[0]).cast(pl.String) == name)  # type: ignore[arg-type]
            if own.is_empty():
                present = table[str(long[0])].cast(pl.String).unique().sort().drop_nulls().to_list()
                raise ValueError(f"metric = {name!r}: {_nearest(name, present, 'metric')}")
            column = str(long[1])
        else:
            own, column = table, name
            if name not in table.columns:
                raise ValueError(f"metric = {name!r}: {_nearest(name, table.columns, 'column')}")
        rows = own.select(*keys, _numeric(own, column, name).alias(name)).drop_nulls(name)
        of_part = _value_of_each_run(rows, name, of_run, at, is_larger_better)
        one = of_part if one is None else one.join(of_part, on=of_run, how="left")
    assert one is not None
    return _as_share(one, metric, found, parts) if found else one


def _numeric(table: pl.DataFrame, column: str, name: str) -> pl.Expr:
    kind = table.schema[column]
    if kind.is_numeric() or kind in (pl.Boolean, pl.Null):
        return pl.col(column).cast(pl.Float64) if not kind.is_integer() else pl.col(column)
    values = table[column].cast(pl.String).str.strip_chars() if kind in (pl.String, pl.Categorical) else None
    if values is None:
        raise ValueError(f"metric = {name!r}: expected a column of numbers, and it holds {kind}")
    numbers = values.cast(pl.Float64, strict=False)
    texts = values.filter(numbers.is_null() & values.is_not_null() & (values != ""))
    if len(texts):
        raise ValueError(f"metric = {name!r}: expected a column of numbers, and it has the text {texts[0]!r}")
    return pl.lit(numbers)


def _value_of_each_run(
    rows: pl.DataFrame, name: str, of_run: list[str], at: str, is_larger_better: bool
) -> pl.DataFrame:
    keys = [*of_run, STEP] if STEP in rows.columns else of_run
    if rows.select(keys).is_duplicated().any():
        twice = rows.filter(rows.select(keys).is_duplicated()).row(0, named=True)
        run = ", ".join(f"{key[1:]} {twice[key]!r}" for key in keys)
        advice = "name the column that distinguishes them with cluster, step or seed, or remove one"
        raise ValueError(f"{name} of {run} occurs twice: {advice}")
    if STEP not in rows.columns:
        return rows
    if rows.select(of_run).n_unique() == len(rows):
        return rows.drop(STEP)
    value = pl.col(name)
    if at == "best":
        chosen = value.max() if is_larger_better else value.min()
        chosen = pl.when(value.is_nan().any()).then(math.nan).otherwise(chosen)  # which would hide that a run diverged
    elif at == "last":
        chosen = value.get(pl.col(STEP).arg_max())
    else:
        chosen = value.sort_by(STEP).tail(int(at.partition(":")[2])).mean()
    return rows.group_by(of_run, maintain_order=True).agg(chosen.alias(name))


def _as_share(one: pl.DataFrame, metric: str, found: re.Match[str], parts: list[str]) -> pl.DataFrame:
    key, trials = parts[0], found["trials"]
    count: pl.Expr = pl.lit(1.0)
    if trials:
        count = pl.lit(float(trials)) if len(parts) == 1 else pl.col(parts[1]).cast(pl.Float64)
    counts = one.select(count.alias("n"))["n"]
    if counts.null_count() or ((counts < 1) | (counts % 1 != 0)).any():
        raise ValueError(f"trials = {trials}: expected whole numbers of at least 1")
    is_count = bool(trials) and (one.schema[key].is_integer() or bool((one[key] > 1).any()))
    share = pl.col(key).cast(pl.Float64) / (count if is_count else 1.0)
    out = one.select(
        *(c for c in one.columns if c not in parts), share.alias(metric), count.alias(f"trials of {metric}")
    )
    values, number = out[metric], out[f"trials of {metric}"]
    successes = values * number
    is_off = (successes - successes.round()).abs() > (0.2 if trials else 0.0)  # shares of many trials may be rounded
    bad_values = values.filter((values < 0) | (values > 1) | is_off)
    if len(bad_values):
        bad = bad_values[0]
        raise ValueError(f"{metric}: expected shares of {trials or 'one trial, 0 or 1'}, or counts, and it has {bad:g}")
    return out


def _check_finite(frame: pl.DataFrame, seed: str) -> None:
    for name in frame.columns:
        if name in (ARM, SEED, CLUSTER):
            continue
        bad = frame.filter(pl.col(name).is_null() | ~pl.col(name).cast(pl.Float64).is_finite())
        if len(bad):
            row = bad.row(0, named=True)
            value = "no value" if row[name] is None else f"the value {row[name]}"
            where = f"arm {row[ARM]!r}, {seed} {row[SEED]!r}" + (f", {row[CLUSTER]}" if CLUSTER in row else "")
            raise ValueError(
                f"metric = {name!r}: expected a finite number for every run, and {where} has {value}; a run that "
                "failed is a result too: count it, with share or as the worst value"
            )


def _words(at: str) -> str:
    return f"mean of the last {at.partition(':')[2]} values" if at.startswith("mean") else f"{at} value"


def _nearest(name: str, present: Sequence[str], kind: str) -> str:
    if len(present) > MANY:
        return f"there is no such {kind}"
    return f"there is no such {kind}; {registry.suggestion(name, list(present))}"


def check_role(name: str, value: str | None) -> None:
    """Raise TypeError unless the name of a column is a text or None."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} = {checks.shown(value)}: expected the name of a column")
