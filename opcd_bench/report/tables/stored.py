"""The table of a stored suite as text: its cells, or its rounds."""

from __future__ import annotations

from pathlib import Path

from opcd_bench.report.tables import plain_text, rounds


def text_of(root: Path, *, chained: bool) -> str:
    """The comparison of the suite's cells; of a suite of chains, round by round."""
    return rounds.as_text(rounds.read(root)) if chained else plain_text.headline_text(root)
