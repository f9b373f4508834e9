"""Responses that run in a loop, which a grader of form alone may take as right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from opcd_bench.envs.thinking import without_thinking

LENGTH = 3
"""Words of the sequences that are counted."""
FEWEST = 3
"""Sequences below which a response is too short to loop."""
MOST = 1 / 3
"""Share of them that may have stood before in the response."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
"""A word; of Chinese and Japanese, which put no spaces, a character."""


def loops(response: str) -> bool:
    """Whether more than a third of the three-word sequences stood before in the response."""
    words = _WORD.findall(response.lower())
    sequences = list(zip(*(words[at:] for at in range(LENGTH)), strict=False))
    repeated = len(sequences) - len(set(sequences))
    return len(sequences) >= FEWEST and repeated > MOST * len(sequences)


def score_without_loops(row: Mapping[str, Any]) -> float | None:
    """A stored sample's score, and 0 if its only response loops; games are as they are.

    What is thought in a response may loop.
    """
    score: float | None = row["score"]
    turns = row.get("turns", ())
    if not score or len(turns) != 1:
        return score
    return 0.0 if loops(without_thinking(turns[0]["reply"])) else score
