"""What a standing says in sentences: ranks, the best means, and how candidates do beside the trivial one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engram.lab.claims.inference import CONFIDENCE

if TYPE_CHECKING:
    from engram.lab.trial.experiment import Task
    from engram.studies.standings.scores import Scores


def about_candidate(scores: Scores, candidate: str) -> list[str]:
    """Where a candidate stands: its rank, the tasks that it leads, and how it does beside the trivial candidate.

    Args:
        scores: The results.
        candidate: The name of the candidate.
    """
    sentences = [*_rank(scores, candidate), *_leads(scores, candidate), *_beside_the_trivial(scores, candidate)]
    if len(scores.own) > 1 and sentences and sentences[0].startswith("It "):  # no rank has said of whom
        sentences[0] = candidate + sentences[0].removeprefix("It")
    return sentences


def sentences_of(scores: Scores) -> list[str]:
    """What the results say of each candidate that was asked about, or of the leader of a kind."""
    return [sentence for candidate in scores.own or scores.leaders for sentence in about_candidate(scores, candidate)]


def about_kind(scores: Scores) -> list[str]:
    """Where all candidates stand: the best means, the ranks, and the tasks where none beats the trivial candidate."""
    leaders = {
        task: tuple(candidate for candidate in row if row[candidate] == max(row.values()))
        for task, row in scores.scores.items()
        if row
    }
    sentences = [f"{_counted(len(scores.candidates), 'method')} on {_counted(len(scores.tasks), 'task')}."]
    for leading in dict.fromkeys(leaders.values()):
        led = [task for task, candidates in leaders.items() if candidates == leading]
        have = "has" if len(leading) == 1 else "share"
        sentences.append(f"{listed(leading)} {have} the best mean on {listed(led)}.")
    order = scores.ranks
    if math.isfinite(order.p):
        verdict = "differ" if order.p < 1 - CONFIDENCE else "do not differ significantly"
        ranked = f"The mean ranks of {len(order.mean)} methods over {_counted(len(order.tasks), 'task')}"
        sentences.append(f"{ranked} {verdict} (Friedman, p = {order.p:.2g}).")
    if nothing := _nothing_decided(scores):
        sentences.append(nothing)
    elif order.groups and order.groups[0][0] in scores.leaders:
        best, *tied = order.groups[0]
        sentences.append(f"{best} has the best mean rank, but it does not differ significantly from {listed(tied)}.")
    unbeaten = [
        f"{task.name} ({task.trivial})"
        for task in scores.tasks
        if task.trivial in scores.scores[task.name]
        and not any(
            scores.relation(task.name, candidate, task.trivial) == "better"
            for candidate in scores.scores[task.name]
            if candidate != task.trivial
        )
    ]
    if unbeaten:
        sentences.append(f"No method is significantly better than the baseline on {listed(unbeaten)}.")
    return sentences


def listed(names: Sequence[str]) -> str:
    """Names in a row; with semicolons if a name contains a comma.

    Examples:
        >>> listed(["bowl", "policy"]), listed(["digits, wide", "digits, deep"])
        ('bowl and policy', 'digits, wide; digits, deep')
    """
    if any("," in name for name in names):
        return "; ".join(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _rank(scores: Scores, candidate: str) -> list[str]:
    order = scores.ranks
    if candidate not in order.mean or len(order.mean) < 2:
        return []
    own_rank, n_tasks = order.mean[candidate], len(order.tasks)
    position = sum(rank < own_rank for rank in order.mean.values()) + 1
    over = f"{n_tasks} of {len(scores.tasks)} tasks" if n_tasks < len(scores.tasks) else _counted(n_tasks, "task")
    n_unranked = len(scores.candidates) - len(order.mean)
    not_ranked = f"; {n_unranked} of {len(scores.candidates)} methods are not ranked, since they have no result there"
    sentences = [
        f"{candidate} is number {position} of {len(order.mean)} with its mean rank of {own_rank:.1f} over {over}"
        f"{not_ranked if n_unranked else ''}."
    ]
    if nothing := _nothing_decided(scores):
        return [*sentences, nothing]
    tied = sum(abs(rank - own_rank) < order.critical for rank in order.mean.values()) - 1
    consequence = f"{tied} of the others may be as good" if tied else "no other may be as good"
    critical = f"Mean ranks less than {order.critical:.1f} apart do not differ significantly"
    return [*sentences, f"{critical}, so {consequence}."]


def _nothing_decided(scores: Scores) -> str:
    """Says that no difference of mean ranks is significant; empty if one is."""
    order = scores.ranks
    spread = max(order.mean.values(), default=0.0) - min(order.mean.values(), default=0.0)
    if len(order.mean) < 2 or not spread < order.critical:
        return ""
    most, over = len(order.mean) - 1, _counted(len(order.tasks), "task")
    apart = f"here they are at most {spread:.2f} apart"
    if most < order.critical:
        apart = f"those of {len(order.mean)} methods are never more than {most} apart"
    needed = f"over {over} only mean ranks at least {order.critical:.2f} apart differ significantly"
    # Friedman's test may find that the candidates differ although no pair of them does.
    decides = "does not decide which methods differ" if order.p < 1 - CONFIDENCE else "decides nothing"
    return f"The ranking {decides}: {needed}, and {apart}."


def _leads(scores: Scores, candidate: str) -> list[str]:
    leads: list[str] = []
    ties: list[str] = []
    n_results = 0
    for task, row in scores.scores.items():
        others = [score for other, score in row.items() if other != candidate]
        n_results += candidate in row and bool(others)
        if candidate in row and others and row[candidate] >= max(others):
            (leads if row[candidate] > max(others) else ties).append(task)
    sentences = [f"It leads on {listed(leads)}."] if leads else []
    if not leads and n_results:
        sentences = [
            f"It leads on none of {n_results} tasks." if n_results > 1 else "It does not lead on the one task."
        ]
    return [*sentences, f"It shares the first place on {listed(ties)}."] if ties else sentences


def _beside_the_trivial(scores: Scores, candidate: str) -> list[str]:
    failed: list[str] = []
    beside: dict[str, list[str]] = {"better": [], "worse": [], "as good": [], "open": []}
    for task in scores.tasks:
        row = scores.entries[task.name]
        if candidate in row and row[candidate].note:
            failed.append(f"{task.name} ({row[candidate].note})")
        elif {candidate, task.trivial} <= set(scores.scores[task.name]) and candidate != task.trivial:
            beside[scores.relation(task.name, candidate, task.trivial)].append(_means(scores, task, candidate))
    sentences = [f"It has no result on {listed(failed)}."] if failed else []
    n_judged, n_tasks = sum(map(len, beside.values())), len(scores.tasks)
    if n_better := len(beside["better"]):
        where = "everywhere" if n_better == n_tasks else f"on {n_better} of {n_tasks} tasks"
        unknown = "; the other tasks have no result to compare" if n_better == n_judged < n_tasks - len(failed) else ""
        sentences.append(f"It is better than the baseline {where}{unknown}.")
    if beside["worse"]:
        sentences.append(f"It is worse than the baseline on {listed(beside['worse'])}.")
    if beside["as good"]:
        sentences.append(f"It is only as good as the baseline on {listed(beside['as good'])}.")
    if beside["open"]:
        undecided = f"It is undecided whether it is better than the baseline on {listed(beside['open'])}"
        sentences.append(f"{undecided}; more seeds may decide it.")
    return sentences


def _means(scores: Scores, task: Task, candidate: str) -> str:
    """A task with the means of a candidate and of the trivial one, and the number of seeds."""
    own, trivial = (scores.entries[task.name][name] for name in (candidate, task.trivial))
    seeds = _counted(len(own.values.keys() & trivial.values.keys()), "seed")
    return f"{task.name} ({own.mean:.3g} against {trivial.mean:.3g} of {task.trivial}, {seeds})"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"
