"""The command that judges a table."""

from __future__ import annotations

import io
import json
import sys

import pytest

from engram import cli

ROWS = [("new", "old"), [(0.95, 0.90), (0.94, 0.91), (0.96, 0.91), (0.95, 0.89), (0.93, 0.90)]]
TABLE = "method,seed,accuracy\n" + "".join(
    f"{arm},{seed},{value}\n" for seed, values in enumerate(ROWS[1]) for arm, value in zip(ROWS[0], values, strict=True)
)
GAIN = "accuracy(new) - accuracy(old)"


@pytest.fixture
def runs(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(TABLE)
    return str(path)


@pytest.mark.parametrize(
    ("claim", "code", "word"), [(">= 0.01", 0, "Holds"), (">= 0.2", 1, "Fails"), (">= 0.045", 3, "Undecided")]
)
def test_the_exit_code_is_the_verdict(claim, code, word, runs, capsys):
    assert cli.run(["judge", runs, "--claim", f"{GAIN} {claim}", "--pair", "seed"]) == code
    assert capsys.readouterr().out.startswith(f"{word}: {GAIN} {claim}")


def test_a_table_comes_from_the_standard_input_and_the_verdict_goes_out_as_json(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TABLE.encode())))
    assert cli.run(["judge", "-", "--claim", f"{GAIN} >= 0.01", "--looks", "3,5", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], said["look"], said["exit_code"]) == ("holds", 2, 0)


def test_many_methods_and_markdown_and_a_ledger(runs, capsys, tmp_path):
    options = ["--best-of", "method", "--metric", "accuracy", "--baseline", "old", "--markdown"]
    assert cli.run(["judge", runs, *options]) == 0
    assert "| new | holds |" in capsys.readouterr().out
    assert cli.run(["judge", runs, *options, "--lower-is-better"]) == 1
    ledger = str(tmp_path / "judged.jsonl")
    assert cli.run(["judge", runs, "--claim", f"{GAIN} >= 0.01", "--pair", "seed", "--ledger", ledger]) == 3
    assert "claim 1 of 1 in the ledger" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either --claim, or --best-of"),
        (["--claim", "a(b) >= 1", "--best-of", "method"], "give either --claim, or --best-of"),
        (["--best-of", "method"], "--best-of needs --metric and --baseline"),
        (["--claim", "a(b) >= 1", "--metric", "a"], "--metric and --baseline belong to --best-of"),
        (["--claim", f"{GAIN} >= 0", "--looks", "5;10"], "--looks 5;10: expected numbers"),
        (["--claim", f"{GAIN} >= 0", "--json", "--markdown"], "--json or --markdown"),
        (["--claim", "accuracy(nwe) >= 0"], "did you mean 'new'?"),
        (["--claim", f"{GAIN} > 0"], f"{' ' * 34}^"),
        (["--claim", f"{GAIN} >= 0", "--at", "first"], "at = 'first'"),
        (["--best-of", "method", "--metric", "accuracy", "--baseline", "old", "--margin", "-1"], "margin = -1.0"),
    ],
)
def test_bad_use_is_named(options, message, runs, capsys):
    assert cli.run(["judge", runs, *options]) == 2
    assert message in capsys.readouterr().err
