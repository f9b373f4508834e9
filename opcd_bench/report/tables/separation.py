"""Which methods are separated, as tables: how many pairs on each measure, and who stands where."""

from __future__ import annotations

import math

import pandas as pd

from opcd_bench.config import measures
from opcd_bench.report.analysis import discrimination
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.tables.layout import Section, of_frame

TITLE = "Which methods are separated"
GAIN, EFFICIENCY = "gain", "efficiency"
NOTE = (
    "Pairs of methods at their headline learning rates; on retention without what stands at the "
    "base, since no step of its training was better on dev. separated: a difference with a p of "
    "at most 0.05 after Holm's correction over all pairs, measures and tasks; pairs with a "
    "control are left out here and corrected among themselves. alike: shown to differ by less "
    "than the margin (two one-sided tests, corrected likewise). undecided: neither. The variance "
    "between seeds is estimated from all pairs of a measure together, as far as they are alike "
    "(Smyth's moderated t); effects and claims have it from their own seeds alone, so that the "
    "same difference has another interval there. between / within: the variance between methods "
    "by that between the seeds of one; below 1 the seed of a training matters more than its "
    "method. would show: the smallest difference that is separated with 80 % power, tested at "
    "0.05 / all pairs; the largest of the pairs of a measure. It is unknown where all score alike "
    "on every example, and none where no difference that there can be would be found. In points "
    "(of efficiency: of the gap), or in nats."
)
GROUPS_NOTE = (
    "The best first. Methods that share a letter are not separated on that measure; this does not "
    "show that they are alike. Gain and change in points against the base, efficiency in % of the "
    "gap."
)


def sections(summary: pd.DataFrame, groups: pd.DataFrame) -> list[Section]:
    """The pairs of every measure (`discrimination.summary`), and the groups (`groups.groups`).

    Nothing where there is no pair.
    """
    if summary.empty:
        return []
    shown = pd.DataFrame(
        {
            "task": summary["task"],
            "measure": list(map(_measure, summary["kind"], summary["measured"])),
            "methods": summary["methods"].map(str),
            "pairs": summary["pairs"].map(str),
            "separated": summary["separated"].map(str),
            "alike": summary["equivalent"].map(str),
            "undecided": summary["undecided"].map(str),
            "between / within": list(map(_ratio, summary["ratio"])),
            "would show": list(
                map(_found, summary["mde_corrected"], summary["kind"], summary["unit"])
            ),
            "margin": list(map(_in_unit, summary["margin"], summary["unit"])),
            "seeds": summary["seeds"].map(str),
        }
    )
    pairs = of_frame(TITLE, shown, f"{discrimination.one_line(summary)} {NOTE}")
    return [pairs, _groups(groups)]


def _groups(groups: pd.DataFrame) -> Section:
    standing = groups[groups["rank"] > 0]
    shown = pd.DataFrame(
        {
            "task": standing["task"],
            "measure": list(map(_measure, standing["kind"], standing["measured"])),
            "method": standing["method"],
            "value": list(map(_value, standing["value"], standing["unit"])),
            "letters": standing["letters"],
            "seeds": [str(len(seeds)) for seeds in standing["seeds"]],
        }
    )
    return of_frame("Groups of methods that are not separated", shown, GROUPS_NOTE)


def _measure(kind: str, measured: str) -> str:
    return kind if kind in (GAIN, EFFICIENCY) else measures.title(measured)


def _ratio(ratio: float) -> str:
    if math.isnan(ratio):
        return ""
    return "no spread within" if math.isinf(ratio) else f"{ratio:.2f}"


def _found(number: float, kind: str, unit: str) -> str:
    """The smallest difference that is found, where any is."""
    if math.isnan(number):
        return "unknown"
    return "none" if discrimination.cannot_be(number, kind, unit) else _in_unit(number, unit)


def _in_unit(number: float, unit: str) -> str:
    if math.isnan(number):
        return ""
    return f"{100 * number:.1f}" if unit == "share" else f"{number:.3f} nats"


def _value(value: Interval, unit: str) -> Interval | str:
    return value if unit == "share" else value.text()
