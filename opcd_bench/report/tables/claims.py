"""The claims of a suite as a table: the claim, its contrast, effect, what would show, the word."""

from __future__ import annotations

import math
import re

import pandas as pd

from opcd_bench.report.analysis.claims import NOT, OPEN, REPRODUCED
from opcd_bench.report.tables.layout import Group, Section, Value
from opcd_bench.report.tables.shown_methods import label

HEADINGS = (
    "claim", "result", "effect", "counts from", "detectable", "seeds", "measure", "contrast",
)  # fmt: skip
NOTES = (
    "Stated in the suite before its runs. In points, with 95 % intervals, not corrected for the "
    "number of claims; each method at the learning rate at which it is compared. Differences on "
    "one task are paired by example, but for rescue, and for gaps to different ceilings; those "
    "between tasks are unpaired.",
    "above, below: counts from is the least effect that counts. reproduced: the interval excludes "
    "0, as does the exact test of signs where few examples differ, and the effect reaches what "
    "counts (of one arm alone: the whole interval does); not reproduced: the interval excludes "
    "every effect that counts.",
    "alike, at least, at most: counts from is how much worse or better counts as nothing. "
    "reproduced: the whole interval is within that; not reproduced: the whole is beyond.",
    "All else is not decidable here, nor is what rests on a single training, or where a training "
    "that was planned is missing. detectable: the effect that would be reproduced in four of five "
    "repetitions; of alike, at least and at most, the threshold with which the claim would be, "
    "were there no difference.",
)
TITLE = "Claims of this suite"
METHOD = re.compile(r"\w+(\[[^]]*])?")
"""A method's name, or any other word, which has no other name for readers."""


def sections(frame: pd.DataFrame) -> list[Section]:
    """`claims` as a table; none where the suite states none."""
    if frame.empty:
        return []
    lines = tuple(_line(row) for row in frame.to_dict("records"))
    return [Section(TITLE, HEADINGS, (Group("", lines),), NOTES)]


def _line(row: dict[str, object]) -> tuple[Value, ...]:
    threshold, mde = float(row["threshold"]), float(row["mde"])  # type: ignore[arg-type]
    counts = f"{row['direction']}, {100 * threshold:g}" if threshold else str(row["direction"])
    shown = "" if math.isnan(mde) else f"{100 * mde:.1f}"
    seeds = _seeds(float(row["seeds"]), float(row["planned"]))  # type: ignore[arg-type]
    return (
        str(row["claim"]), str(row["word"]), row["effect"], counts, shown, seeds,
        str(row["measure"]), METHOD.sub(lambda found: label(found[0]), str(row["contrast"])),
    )  # type: ignore[return-value]  # fmt: skip


def _seeds(done: float, planned: float) -> str:
    if math.isnan(done):
        return ""
    return f"{done:g}" if done >= planned else f"{done:g} of {planned:g}"


def conclusion(frame: pd.DataFrame) -> str:
    """One line on all of them."""
    counted = [(word, int((frame["word"] == word).sum())) for word in (REPRODUCED, NOT, OPEN)]
    said = ", ".join(f"{count} {word}" for word, count in counted if count)
    return f"Of {len(frame)} claims: {said}."
