"""The claims of a suite as a table: the claim, its contrast, effect, what would show, the word."""

from __future__ import annotations

import math

import pandas as pd

from opcd_bench.report.analysis.claims import NOT, OPEN, REPRODUCED
from opcd_bench.report.tables.layout import Group, Section, Value

HEADINGS = ("claim", "contrast", "measure", "counts from", "effect", "detectable", "result")
NOTE = (
    "Stated in the suite before its runs. In points, with 95 % intervals, not corrected for the "
    "number of claims; each method at the learning rate at which it is compared. counts from: "
    "the least effect that counts (of alike: the most). detectable: the effect that would show in "
    "four of five repetitions. reproduced: the interval excludes 0 and the effect reaches what "
    "counts; not reproduced: the interval excludes every effect that counts; else it is not "
    "decidable here, nor is what rests on a single training. Differences of accuracy on one task "
    "are paired by example; all others are unpaired."
)
TITLE = "Claims of this suite"


def sections(frame: pd.DataFrame) -> list[Section]:
    """`claims` as a table; none where the suite states none."""
    if frame.empty:
        return []
    lines = tuple(_line(row) for row in frame.to_dict("records"))
    return [Section(TITLE, HEADINGS, (Group("", lines),), (NOTE,))]


def _line(row: dict[str, object]) -> tuple[Value, ...]:
    threshold, mde = float(row["threshold"]), float(row["mde"])  # type: ignore[arg-type]
    counts = f"{row['direction']}, {100 * threshold:g}" if threshold else str(row["direction"])
    shown = "" if math.isnan(mde) else f"{100 * mde:.1f}"
    return (
        str(row["claim"]), str(row["contrast"]), str(row["measure"]), counts,
        row["effect"], shown, str(row["word"]),
    )  # type: ignore[return-value]  # fmt: skip


def conclusion(frame: pd.DataFrame) -> str:
    """One line on all of them."""
    counted = [(word, int((frame["word"] == word).sum())) for word in (REPRODUCED, NOT, OPEN)]
    said = ", ".join(f"{count} {word}" for word, count in counted if count)
    return f"Of {len(frame)} claims: {said}."
