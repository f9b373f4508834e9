"""The words that captions share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from opcd_bench.report.analysis import statistics

AT_RATE = "each method at the learning rate at which it is compared"


def interval_words(over: str = "examples", seeds: Sequence[int] = ()) -> str:
    """Which interval is drawn, and over what; ``seeds``: those that it includes."""
    how = f"over seeds and {over}" if len(seeds) > 1 else f"percentile bootstrap over {over}"
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


def seeds_words(seeds: Sequence[int], *, included: bool = False) -> str:
    """How many seeds stand behind it, as a sentence; ``included``: in the intervals."""
    if not seeds:
        return "No seed is finished."
    if len(seeds) == 1:
        return "One seed: seed variance is not known."
    do = "include" if included else "do not include"
    return f"{len(seeds)} seeds: the intervals {do} seed variance."


def summed_seeds(counts: Sequence[int]) -> str:
    """How many seeds stand behind the methods of a figure, as a sentence."""
    few, many = min(counts, default=0), max(counts, default=0)
    if many <= 1:
        return "One seed: the intervals say nothing about other trainings."
    return f"{few} to {many} seeds." if few < many else f"{many} seeds."


def faint_words(seeds: Sequence[int]) -> str:
    """What is drawn faint beside a mean over seeds, as a sentence; nothing where there is none."""
    return " Faint: single seeds." if len(seeds) > 1 else ""


def lines_words(seeds: Sequence[int]) -> str:
    """What a line is, as a sentence."""
    return (
        f"Solid: mean over seeds.{faint_words(seeds)}" if len(seeds) > 1 else "One line per method."
    )


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
