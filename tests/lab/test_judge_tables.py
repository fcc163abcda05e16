"""Tables that the judge reads: files, folders, what trackers keep, frames; and which columns it takes for what."""

from __future__ import annotations

import io
import json
import sqlite3
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest

import engram
from engram.lab.judging import judge, read_table
from engram.storage.files import CorruptFileError

CLAIM = "accuracy(new) - accuracy(old) >= 0.01"
SEEDS = 6
VALUES = {
    "new": [0.95, 0.94, 0.96, 0.95, 0.93, 0.94],
    "old": [0.90, 0.91, 0.91, 0.89, 0.90, 0.92],
}
WIDE = pl.DataFrame(
    {
        "method": [arm for arm in VALUES for _ in range(SEEDS)],
        "seed": [*range(SEEDS)] * 2,
        "accuracy": [value for values in VALUES.values() for value in values],
        "loss": [1.0 - value for values in VALUES.values() for value in values],
    }
)
EXPECTED = judge(WIDE, CLAIM, pair="seed")


def same(table, **options):
    judged = judge(table, CLAIM, pair="seed", **options)
    assert judged.verdict == "holds"
    assert (judged.effect, judged.low, judged.p) == pytest.approx((EXPECTED.effect, EXPECTED.low, EXPECTED.p), rel=1e-6)
    return judged


@pytest.mark.parametrize("shape", ["wide", "long"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "stdin", "folder"])
def test_every_kind_of_file_gives_the_same_verdict(shape, kind, tmp_path, monkeypatch):
    long = WIDE.unpivot(["accuracy", "loss"], index=["method", "seed"], variable_name="metric", value_name="value")
    frame = WIDE if shape == "wide" else long
    path = tmp_path / f"runs.{kind}"
    if kind == "csv":
        frame.write_csv(path)
    elif kind == "tsv":
        frame.write_csv(path, separator="\t")
    elif kind == "jsonl":
        frame.write_ndjson(path)
    elif kind == "parquet":
        frame.write_parquet(path)
    elif kind == "stdin":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(frame.write_csv().encode())))
        path = "-"
    else:
        path.mkdir()
        for number, ((arm,), part) in enumerate(frame.group_by("method", maintain_order=True)):
            part.write_csv(path / f"{arm}.csv") if number else part.write_parquet(path / f"{arm}.parquet")
    same(path)


def test_frames_of_pandas_and_dicts_are_read():
    same(pd.DataFrame(WIDE.to_dict(as_series=False)))
    same(WIDE.to_dict(as_series=False))
    same(WIDE.lazy())
    assert engram.judge(WIDE, CLAIM, pair="seed").verdict == "holds"
    with pytest.raises(TypeError, match=r"frame = a int: expected a polars or pandas frame"):
        judge(3, CLAIM)


def test_a_folder_whose_file_names_tell_arm_and_seed(tmp_path):
    for arm, values in VALUES.items():
        for seed, value in enumerate(values):
            (tmp_path / arm).mkdir(exist_ok=True)
            (tmp_path / arm / f"seed_{seed}.csv").write_text(f"step,accuracy\n1,0.5\n2,{value}\n")
    judged = same(tmp_path)
    assert any("arm and seed read from column 'file'" in said for said in judged.assumed)
    assert any("column 'step' taken for the step; of a curve the last value counts" in said for said in judged.assumed)


def test_nested_json_lines_are_columns(tmp_path):
    rows = [
        {"config": {"method": arm, "seed": seed}, "accuracy": value}
        for arm, values in VALUES.items()
        for seed, value in enumerate(values)
    ]
    path = tmp_path / "runs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    same(path)


@pytest.mark.filterwarnings("ignore")  # sqlalchemy warns of itself
@pytest.mark.parametrize("place", ["mlruns", pytest.param("mlflow.db", marks=pytest.mark.soak)])  # it migrates for long
def test_runs_of_mlflow_as_a_folder_and_as_a_database(place, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    import mlflow

    client = mlflow.MlflowClient(f"{'file' if place == 'mlruns' else 'sqlite'}:///{tmp_path / place}")
    experiment = client.create_experiment("one", artifact_location=str(tmp_path / "artifacts"))
    for arm, values in VALUES.items():
        for seed, value in enumerate(values):
            run = client.create_run(experiment, run_name=f"{arm}-{seed}").info.run_id
            client.log_param(run, "method", arm)
            client.log_param(run, "seed", seed)
            for step, logged in enumerate((0.1, value)):
                client.log_metric(run, "accuracy", logged, step=step)
            client.set_terminated(run)
    same(tmp_path / place)


def test_event_files_of_tensorboard(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    for arm, values in VALUES.items():
        for seed, value in enumerate(values):
            with SummaryWriter(tmp_path / arm / f"seed{seed}") as writer:
                writer.add_scalar("accuracy", 0.1, 0)
                writer.add_scalar("accuracy", value, 1)
    judged = judge(tmp_path, CLAIM, pair="seed")
    assert judged.effect == pytest.approx(EXPECTED.effect, abs=1e-6)  # event files hold 32 bits


def test_exports_of_wandb(tmp_path):
    chart = {"Step": [1, 2]}
    for arm, values in VALUES.items():
        for seed, value in enumerate(values):
            for end in ("", "__MIN", "__MAX"):
                chart[f"{arm}-seed{seed} - accuracy{end}"] = [0.1, value]
    pl.DataFrame(chart).write_csv(tmp_path / "chart.csv")
    same(tmp_path / "chart.csv")
    table = WIDE.rename({"method": "Group"}).with_columns(pl.format("run-{}", pl.int_range(pl.len())).alias("Name"))
    table.select("Name", "Group", "seed", "accuracy").write_csv(tmp_path / "table.csv", quote_style="always")
    same(tmp_path / "table.csv")


@pytest.mark.parametrize("has_id", [True, False])
def test_the_database_of_trackio(has_id, tmp_path):
    path = tmp_path / "project.db"
    own = "run_id TEXT NOT NULL," if has_id else ""
    with sqlite3.connect(path) as connection:  # as trackio 0.43 and 0.2 create them
        connection.execute(
            f"CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, {own} timestamp TEXT NOT NULL, "
            "run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL)"
        )
        connection.execute(
            f"CREATE TABLE configs (id INTEGER PRIMARY KEY AUTOINCREMENT, {own} run_name TEXT NOT NULL, "
            "config TEXT NOT NULL, created_at TEXT NOT NULL)"
        )
        for arm, values in VALUES.items():
            for seed, value in enumerate(values):
                name = f"{arm}-{seed}"
                names = [f"id-{name}", name] if has_id else [name]
                columns = "run_id, run_name" if has_id else "run_name"
                marks = ", ".join("?" for _ in names)
                for step, logged in enumerate((0.1, value)):
                    connection.execute(
                        f"INSERT INTO metrics ({columns}, timestamp, step, metrics) VALUES ({marks}, 'now', ?, ?)",
                        [*names, step, json.dumps({"accuracy": logged, "note": "text"})],
                    )
                connection.execute(
                    f"INSERT INTO configs ({columns}, config, created_at) VALUES ({marks}, ?, 'now')",
                    [*names, json.dumps({"method": arm, "seed": seed, "_Username": "me"})],
                )
    connection.close()
    same(path)


def test_runs_of_engram(toy, tmp_path):
    results = engram.run(toy, preset="smoke", seeds=4, jobs=1, runs=tmp_path, progress=False)
    frame = read_table(tmp_path / toy)
    assert set(frame["arm"]) == {trial.arm for trial in results.trials}
    trial = results.trials[0]
    (name, value) = next((name, value) for name, value in trial.result.items() if isinstance(value, float))
    arm = next(iter(set(frame["arm"])))
    judged = judge(tmp_path, f"{name}({arm}) <= 1e9")
    assert judged.seeds == 4
    assert np.isclose(
        judge(frame.filter(pl.col("arm") == trial.arm), f"{name}({trial.arm}) <= 1e9").effect,
        np.mean([other.result[name] for other in results.trials if other.arm == trial.arm]),
    ), value


@pytest.mark.parametrize(("at", "effect"), [("last", 0.3), ("best", 0.4), ("mean:2", 0.35)])
def test_the_value_of_a_curve(at, effect):
    rows = [
        (arm, seed, step, base + value + seed / 1000 * (arm == "new"))
        for arm, base in (("new", 0.0), ("old", 0.0))
        for seed in range(3)
        for step, value in enumerate((0.1, 0.5, 0.4) if arm == "new" else (0.0, 0.1, 0.1))
    ]
    frame = pl.DataFrame(rows, schema=["arm", "seed", "epoch", "accuracy"], orient="row").sample(
        fraction=1, shuffle=True, seed=0
    )
    judged = judge(frame, "accuracy(new) - accuracy(old) >= 0.0", at=at)
    assert judged.effect == pytest.approx(effect + 0.001)
    assert any("chosen on the values" in doubt for doubt in judged.doubts) == (at == "best")


def test_the_best_loss_is_the_smallest():
    rows = [("a", seed, step, value + seed / 100) for seed in range(3) for step, value in enumerate((3.0, 1.0, 2.0))]
    frame = pl.DataFrame(rows, schema=["arm", "seed", "step", "loss"], orient="row")
    assert judge(frame, "loss(a) <= 2", at="best").effect == pytest.approx(1.01)


BAD = {
    "no such arm": (WIDE, "accuracy(nwe) - accuracy(old) >= 0", {}, r"arm = 'nwe': .* did you mean 'new'"),
    "no such metric": (WIDE, "acuracy(new) >= 0", {}, r"metric = 'acuracy': .* did you mean 'accuracy'"),
    "no such column": (WIDE, CLAIM, {"pair": "sed"}, r"pair = 'sed': there is no such column; did you mean 'seed'"),
    "a NaN": (
        WIDE.with_columns(accuracy=pl.when(pl.col("seed") == 2).then(float("nan")).otherwise("accuracy")),
        CLAIM, {}, r"expected a finite number for every run, and arm 'new', seed 2 has the value nan",
    ),
    "an empty cell": (
        WIDE.with_columns(accuracy=pl.when(pl.col("seed") != 2).then("accuracy"), other=pl.lit(1)),
        "accuracy(new) + other(new) >= 0", {}, r"arm 'new', seed 2 has no value",
    ),
    "a seed twice": (pl.concat([WIDE, WIDE[:1]]), CLAIM, {}, r"accuracy of arm 'new', seed 0 occurs twice"),
    "a step twice": (
        pl.concat([WIDE, WIDE[:1]]).with_columns(step=pl.lit(1)), CLAIM, {}, r"arm 'new', seed 0, step 1 occurs twice",
    ),
    "other seeds": (
        WIDE.with_columns(seed=pl.int_range(pl.len())), CLAIM, {"pair": "seed"},
        r"pair = 'seed': expected runs of all arms with the same seed, and new has 0, 1, 2, 3, 4, ...; old has 6, 7",
    ),
    "a text column": (
        WIDE.with_columns(accuracy=pl.lit("high")), CLAIM, {}, r"metric = 'accuracy': .* it has the text 'high'",
    ),
    "a percent": (
        WIDE.with_columns(accuracy=pl.format("{}%", "accuracy")), CLAIM, {}, r"has the text '0.95%'",
    ),
    "no rows": (WIDE[:0], CLAIM, {}, r"frame: expected a table with rows, and it is empty"),
    "at": (WIDE, CLAIM, {"at": "first"}, r"at = 'first': expected 'last', 'best' or 'mean:N'"),
    "looks that fall": (WIDE, CLAIM, {"looks": [5, 3]}, r"looks = \[5, 3\]: expected increasing numbers of at least 3"),
    "looks of two": (WIDE, CLAIM, {"looks": [2, 5]}, r"expected increasing numbers of at least 3"),
    "no pairs": (WIDE, "min(accuracy(new), accuracy(old)) >= 0", {}, r"name what belongs together with pair"),
    "no positive ratio": (
        WIDE.with_columns(accuracy=pl.col("accuracy") - 0.93), "accuracy(new) / accuracy(old) >= 1", {},
        r"expected positive values for a ratio",
    ),
    "no share": (WIDE, "share(accuracy)(new) >= 0.5", {}, r"share\(accuracy\): expected shares of one trial"),
    "no arm column": (WIDE.drop("method"), CLAIM, {}, r"arm: no column is called arm or has 'new', 'old'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_named(name):
    table, claim, options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        judge(table, claim, **options)


def test_bad_files_are_named(tmp_path):
    empty = tmp_path / "empty.csv"
    empty.touch()
    with pytest.raises(ValueError, match=r"empty.csv: expected a table, and it is empty"):
        judge(empty, CLAIM)
    (tmp_path / "head.csv").write_text("method,seed,accuracy\n")
    with pytest.raises(ValueError, match=r"head.csv: expected a table, and it is empty"):
        judge(tmp_path / "head.csv", CLAIM)
    with pytest.raises(FileNotFoundError, match="there is no such file or folder"):
        judge(tmp_path / "none.csv", CLAIM)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CorruptFileError, match=r"broken\.parquet"):
        judge(tmp_path / "broken.parquet", CLAIM)
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(CorruptFileError, match=r"ragged\.csv"):
        judge(tmp_path / "ragged.csv", CLAIM)
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match=r"expected files \*.csv"):
        judge(tmp_path / "other", CLAIM)
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE people (name TEXT)")
    connection.close()
    with pytest.raises(ValueError, match=r"expected a database of trackio or MLflow, and it has tables people"):
        judge(tmp_path / "other.db", CLAIM)


def test_names_of_columns_are_texts():
    with pytest.raises(TypeError, match="pair = 3: expected the name of a column"):
        judge(WIDE, CLAIM, pair=3)
    with pytest.raises(TypeError, match="claim = 3: expected a text"):
        judge(WIDE, 3)
    with pytest.raises(TypeError, match="looks = 5: expected a list"):
        judge(WIDE, CLAIM, looks=5)
