"""Responses that run in a loop, which a grader of form alone may take as right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LENGTH = 3
"""Words of the sequences that are counted."""
FEWEST = 3
"""Sequences below which a response is too short to loop."""
MOST = 1 / 3
"""Share of them that may have stood before in the response."""
_WORD = re.compile(r"\w+")


def loops(response: str) -> bool:
    """Whether more than a third of the three-word sequences stood before in the response."""
    words = _WORD.findall(response.lower())
    sequences = list(zip(*(words[at:] for at in range(LENGTH)), strict=False))
    repeated = len(sequences) - len(set(sequences))
    return len(sequences) >= FEWEST and repeated > MOST * len(sequences)


def score_without_loops(row: Mapping[str, Any]) -> float | None:
    """A stored sample's score, and 0 if its only response loops; games are as they are."""
    score: float | None = row["score"]
    turns = row.get("turns", ())
    return 0.0 if score and len(turns) == 1 and loops(turns[0]["reply"]) else score
