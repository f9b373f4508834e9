"""The words that captions share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from opcd_bench.report.analysis import statistics
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.figures.style import Marks

AT_RATE = "each method at the learning rate at which it is compared"


def interval_words(over: str, counts: Iterable[int]) -> str:
    """Which intervals are drawn, and over what; ``counts``: how many seeds each of them includes.

    Those of one, or of none, are of these trainings alone.
    """
    found = [*counts]
    alone = f"percentile bootstrap over {over}"
    how = f"over seeds and {over}" if max(found, default=0) > 1 else alone
    if len({count > 1 for count in found}) > 1:
        how += f"; of one seed {alone} alone"
    return f"{statistics.CONFIDENCE:.0%} intervals ({how})"


FACTORS = {"writer": "rollout policy", "reads": "teacher reads", "rows": "teacher rows"}
"""Factors of a method whose stored names are not those that users know."""


def factor_words(factor: str) -> str:
    """A factor of `analysis.factorial`, or an interaction of two, as users name it."""
    return " × ".join(FACTORS.get(one, one) for one in factor.split(" x "))


def levels_words(factor: str, levels: str) -> str:
    """The levels of a factor as users name them: a teacher that writes is the in-context one."""
    if "writer" in factor.split(" x "):
        levels = re.sub(r"\bteacher\b(?! top)", "in-context teacher", levels)
    return levels.replace(" - ", " \N{MINUS SIGN} ").replace("_", " ")


FORMS = {
    "generalised": "generalised {}", "renormalised": "renormalised {}",
    "truncated_teacher": "{} to the truncated teacher", "tail": "{} with a tail bucket",
    "estimate": "{}, estimated from samples",
}  # fmt: skip
"""How a logged divergence is of its direction, by the end of its stored name."""


def divergence_words(kind: str) -> str:
    """A stored kind of divergence for readers: ``generalised reverse KL``."""
    for end, form in FORMS.items():
        if kind.endswith(f"_{end}"):
            return form.format(divergence_words(kind.removesuffix(f"_{end}")))
    words = kind.replace("_", " ").split(" ")
    return " ".join(word.upper() if word in ("kl", "jsd") else word for word in words)


def effect_notes(effects: pd.DataFrame, marks: Marks) -> str:
    """What else differs between the methods of a task's effects, as a sentence, or nothing."""
    notes = [note for note in dict.fromkeys(effects["note"]) if note]
    rates = {
        name: rate
        for names, of_names in zip(effects["methods"], effects["learning_rates"], strict=True)
        if len(set(of_names)) > 1
        for name, rate in zip(names, of_names, strict=True)
    }
    if rates:
        each = ", ".join(f"{marks[m].label} {rates[m]:g}" for m in marks if m in rates)
        notes.append(f"methods stand at learning rates of their own: {each}")
    return f"Note: {'; '.join(notes)}." if notes else ""


def seeds_words(seeds: Sequence[int], *, drawn: bool = True) -> str:
    """How many seeds stand behind what has no seeds in its intervals, as a sentence.

    ``drawn``: whether there are intervals at all. Of those that have seeds: `summed_seeds`.
    """
    if not seeds:
        return "No seed is finished."
    if len(seeds) == 1:
        return "One seed: seed variance is not known."
    if not drawn:
        return f"{len(seeds)} seeds."
    return f"{len(seeds)} seeds: the intervals do not include seed variance."


def summed_seeds(counts: Iterable[int]) -> str:
    """How many seeds stand behind each of a figure's intervals, which include them; a sentence."""
    found = [*counts]
    few, many = min(found, default=0), max(found, default=0)
    if many <= 1:
        return "One seed: the intervals say nothing about other trainings."
    if few == many:
        return f"{many} seeds."
    alone = ": the intervals of one seed say nothing about other trainings" if few <= 1 else ""
    return f"{few} to {many} seeds{alone}."


def faint_words(seeds: Sequence[int]) -> str:
    """What is drawn faint beside a mean over seeds, as a sentence; nothing where there is none."""
    return " Faint: single seeds." if len(seeds) > 1 else ""


def lines_words(seeds: Sequence[int]) -> str:
    """What a line is, as a sentence."""
    return (
        f"Solid: mean over seeds.{faint_words(seeds)}" if len(seeds) > 1 else "One line per method."
    )


def items(intervals: Iterable[Interval], noun: str) -> str:
    """Over how many items the widest of these is: ``96 test items in 12 clusters``."""
    most = statistics.widest(intervals)
    return f"{counted(most.examples, noun)}{most.clusters}"


def counted(n: int, noun: str) -> str:
    """``1 item``, ``2 items``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def measures(names: Iterable[str]) -> list[str]:
    """What was measured, each once: "test" first, then the retention tasks by name."""
    return sorted(set(names), key=lambda name: (name != "test", name))
