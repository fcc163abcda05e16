"""Time to infer a rule, compared with the plain way: Adam on the gradient of reverse mode.

Oja's rule among 27 terms, from activity with 5 % of noise, in one thread: engram's estimator (Levenberg-Marquardt with
forward sensitivities), and full-batch Adam on the same loss in plain PyTorch, which stops after a fixed number of
updates. Seconds are those of the processor, since the machine may do something else. The size of the published example,
100 inputs to 1,000 units and 50 sessions of 50 steps, is fitted from 20 random units of each session and, without
``--quick``, from all. ``python benchmarks/rule_inference.py`` takes a quarter of an hour and writes the record next to
this file.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engram.learned import PlasticityRuleInference, simulate_activity
from engram.plasticity.taylor import Exponents

RECORD = Path(__file__).with_suffix(".json")
OJA = {"x y": 1.0, "y^2 w": -1.0}
# Inputs, units, sessions, recorded units of each session.
SIZES = {
    "small": (10, 10, 20, 10),
    "published, 20 units a session": (100, 1000, 50, 20),
    "published": (100, 1000, 50, 1000),
}
STEPS, RATE, NOISE = 50, 0.1, 0.05
UPDATES, ADAM_RATE = 600, 1e-2
TARGET = 10  # at least this many times faster than Adam


def data(size: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs, activity with NaN where it was not recorded, and first weights."""
    inputs, units, sessions, recorded = SIZES[size]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(sessions, STEPS, inputs)) * np.sqrt(
        10 / inputs
    )  # currents as large as those of the small size
    weights = 0.1 * rng.normal(size=(units, inputs))
    # One session at a time, since the weights over time of all would take gigabytes.
    activity = np.stack([simulate_activity(OJA, session, weights, rng, eta=RATE).activity[0] for session in x])
    activity += NOISE * activity.std(axis=(0, 1)) * rng.normal(size=activity.shape)
    for session in activity:
        session[:, rng.permutation(units)[recorded:]] = np.nan
    return x, activity, weights


def fit(size: str) -> dict[str, Any]:
    x, activity, weights = data(size)
    inference = PlasticityRuleInference(eta=RATE, initial_weights=weights)
    begin = time.process_time()
    inference.fit(x, activity)
    seconds = time.process_time() - begin
    errors = [abs(inference.coefficients_[name] - true) for name, true in OJA.items()]
    loss = float(np.nanmean((np.stack(inference.predict(x)) - activity) ** 2)) if size == "small" else None
    return {"seconds": seconds, "iterations": inference.n_iter_, "error": max(errors), "loss": loss}


def adam() -> dict[str, Any]:
    """Return time and loss of the plain loop, at the small size."""
    x, activity, weights = (torch.from_numpy(part) for part in data("small"))
    oja = [(Exponents.of(name), true) for name, true in OJA.items()]
    theta = torch.zeros(3, 3, 3, dtype=torch.float64, requires_grad=True)  # by the exponents of input, activity, weight
    optimizer = torch.optim.Adam([theta], lr=ADAM_RATE)
    begin = time.process_time()
    for _ in range(UPDATES):
        w, predicted = weights.expand(len(x), -1, -1), []
        for t in range(STEPS):
            y = torch.sigmoid(torch.einsum("kui,ki->ku", w, x[:, t]))
            predicted.append(y)
            of_x, of_y, of_w = (torch.stack([torch.ones_like(v), v, v * v]) for v in (x[:, t], y, w))
            of_unit = torch.einsum("abd,bku->daku", theta, of_y)
            w = w + RATE * (torch.einsum("daku,aki->dkui", of_unit, of_x) * of_w).sum(0)
        loss = (torch.stack(predicted, 1) - activity).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    errors = [abs(theta[exponents.x, exponents.y, exponents.w].item() - true) for exponents, true in oja]
    return {"seconds": time.process_time() - begin, "iterations": UPDATES, "error": max(errors), "loss": loss.item()}


def section(record: dict[str, Any]) -> list[str]:
    """Return the section of the page on benchmarks."""
    rows = []
    for size, measured in record["sizes"].items():
        inputs, units, sessions, recorded = SIZES[size]
        ways = {"engram": measured} | ({"Adam, reverse mode": record["adam"]} if size == "small" else {})
        for way, each in ways.items():
            said = f"{inputs} to {units:,}, {sessions} sessions, {recorded:,} units of each"
            loss = "" if each["loss"] is None else f"{each['loss']:.3g}"
            rows.append(
                f"| {said} | {way} | {each['seconds']:.3g} s | {each['iterations']} | {loss} | {each['error']:.2g} |"
            )
    ratio = record["adam"]["seconds"] / record["sizes"]["small"]["seconds"]
    return [
        "## Inference of rules",
        "",
        "Oja's rule among 27 terms, inferred from activity with 5 % of noise; sessions have 50 steps. "
        f"Adam takes {ratio:.0f} times as long (target: at least {TARGET}) and has then not yet the same loss. "
        f"Seconds of the processor, one thread; load average before the run {record['load']:.1f}.",
        "",
        "| data | way | time | steps | loss | largest error of Oja's two coefficients |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    sizes = list(SIZES)[:2] if parser.parse_args().quick else list(SIZES)
    torch.set_num_threads(1)
    record: dict[str, Any] = {"load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0}
    record["adam"] = adam()
    record["sizes"] = {size: fit(size) for size in sizes}
    print("\n".join(section(record)))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
