"""Which methods are controls: they cannot work, and show that the harness would say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opcd_bench.report.analysis.load import StoredResults


def is_control(description: Mapping[str, Any]) -> bool:
    """Whether a method cannot work by construction, so that it only shows that the harness does.

    That is: a loss without a teacher in its gradient, a teacher that knows what the student knows
    or is told another example's hint, or its distributions at the wrong positions.
    """
    loss, teacher = description["loss"], description["teacher"]
    knows_no_more = teacher["reads"] == "nothing" and teacher["weights"] == "initial"
    # A told rollout policy knows more, and so does a reward.
    knows_no_more &= description["writer"]["kind"] == "student" and not loss.get("rewarded")
    misled = teacher["rows"] == "shuffled" or teacher["reads"] == "other_hint"
    return bool(loss.get("broken")) or knows_no_more or misled


def controls(results: StoredResults) -> set[tuple[str, str]]:
    """(task, method) of the controls among the cells."""
    columns = (results.cells[name] for name in ("task", "method", "description"))
    return {
        (str(task), str(method))
        for task, method, description in zip(*columns, strict=True)
        if is_control(description)
    }
