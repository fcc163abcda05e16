"""The counts of the last campaigns, as the page on reliability shows them.

``python docs/campaigns.py`` writes them from ``results/campaigns.json``, to which ``tests/campaign.py`` adds.
"""

from __future__ import annotations

import json
import textwrap

from engram.storage.files import write_atomic
from engram.studies.recording.tables import RECORDS, ROOT, with_block

CAMPAIGNS = RECORDS / "campaigns.json"
PAGE = ROOT / "docs" / "reliability.md"


def campaigns_block() -> str:
    """Return the results of the last campaigns, as a Markdown list."""
    campaigns = json.loads(CAMPAIGNS.read_text())
    kills, calls, sequences = campaigns["kills"], campaigns["calls"], campaigns["sequences"]
    errors = calls["named"] + calls["unnamed"]
    items = [
        f"Kills ({kills['date']}): {kills['kills']:,} kills at random moments in {kills['runs']} runs of "
        f"{kills['experiments']} experiments; {kills['differences']} differences from uninterrupted runs, "
        f"{kills['crashes']} crashes.",
        f"Wrong calls ({calls['date']}): {calls['calls']:,} wrong calls of {calls['functions']} functions and methods; "
        f"{calls.get('crashes', 0)} crashes, {calls.get('hangs', 0)} hangs. {calls['named'] / errors:.1%} of "
        f"{errors:,} errors name the argument.",
        f"Training ({sequences['date']}): {sequences['sequences']:,} random sequences of training steps with "
        f"{sequences['parts']} learning rules and continual methods, with layers frozen between steps, with shared "
        "weights, in eight threads at once, and with states of other networks; "
        f"{sequences.get('differences', 0)} differences, {sequences.get('crashes', 0)} crashes. "
        f"{sequences['refused']} sequences were refused with an error that names the layer or the state.",
    ]
    if "hostile" in campaigns:
        hostile = campaigns["hostile"]
        items.append(
            f"Damaged files ({hostile['date']}): {hostile['attacks']:,} files damaged, swapped or forged in "
            f"{hostile['runs']:,} folders of runs; {hostile['differences']} wrong numbers, {hostile['crashes']} "
            f"crashes, {hostile['hangs']} hangs."
        )
    if "torch" in campaigns:
        settings = campaigns["torch"]
        items.append(
            f"Settings of torch ({settings['date']}): {settings['runs']} runs of {settings['experiments']} experiments "
            f"after the caller changed torch's settings; {settings['differences']} differences."
        )
    wrapped = [textwrap.wrap(item, 120, initial_indent="- ", subsequent_indent="  ") for item in items]
    return "\n".join(line for lines in wrapped for line in lines) + "\n"


if __name__ == "__main__":
    write_atomic(PAGE, with_block(PAGE.read_text(), campaigns_block()).encode())
