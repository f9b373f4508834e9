"""The table of a stored suite as text: its cells, or its rounds."""

from __future__ import annotations

from pathlib import Path

from opcd_bench.report.analysis.load import load
from opcd_bench.report.tables import entrants, plain_text, rounds


def text_of(root: Path, *, chained: bool) -> str:
    """The comparison of the suite's cells; of a suite of chains, round by round."""
    if chained:
        return rounds.as_text(rounds.read(root))
    beside = entrants.as_text(load(root))
    return "\n\n".join(filter(None, [plain_text.headline_text(root), beside]))
