"""The command that judges a table of anybody's results."""

from __future__ import annotations

import json
from typing import Any

from engram.cli.commands import Judge


def judge(command: Judge) -> int:
    """Judge a claim, or many methods, and print the verdict; return 0 if it holds, 1 if it fails, 3 if undecided."""
    from engram.lab.judging import best_of, read_table
    from engram.lab.judging import judge as judge_table

    is_many = command.best_of is not None
    if is_many == (command.claim is not None):
        raise ValueError("give either --claim, or --best-of with --metric and --baseline")
    if is_many and (command.metric is None or command.baseline is None):
        raise ValueError("--best-of needs --metric and --baseline")
    if not is_many and (command.metric is not None or command.baseline is not None):
        raise ValueError("--metric and --baseline belong to --best-of; a claim names its metric and its arms")
    if command.json and command.markdown:
        raise ValueError("give --json or --markdown, not both")
    options: dict[str, Any] = {
        name: getattr(command, name) for name in ("pair", "cluster", "seed", "step", "at", "ledger")
    }
    options["looks"] = _numbers(command.looks)
    table = read_table(command.table)
    if is_many:
        result: Any = best_of(
            table, command.metric or "", command.baseline or "", arm=command.best_of, margin=command.margin,
            is_lower_better=command.lower_is_better, **options,
        )  # fmt: skip
    else:
        result = judge_table(table, command.claim or "", arm=command.arm, **options)
    print(json.dumps(result.to_json()) if command.json else result.markdown() if command.markdown else result)
    return int(result.exit_code)


def _numbers(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise ValueError(f"--looks {text}: expected numbers separated by commas, as in 5,10,20") from None
