"""What in-context teachers read: a suite's contexts as they were stored with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from opcd_bench.envs.task import Context, Contexts
from opcd_bench.report.analysis.load import StoredResults

CONTEXTS = "contexts"
"""Of suite.json: task -> hash -> pool, and lengths in tokens."""


@dataclass(frozen=True)
class StoredContexts:
    """The contexts of a task's runs. Mean tokens are NaN where nothing could be measured."""

    contexts: Contexts
    prompt_tokens: float
    context_tokens: float


def stored(suite: Mapping[str, Any], cells: pd.DataFrame) -> dict[str, StoredContexts]:
    """Task -> what its runs were told; a task whose suite does not say (an older version) lacks.

    ``suite``: suite.json. ``cells``: as of `StoredResults`.
    """
    found = {}
    for task, hashes in cells.groupby("task", sort=True)["settings"]:
        wanted = {settings.get("task.context_hash") for settings in hashes}
        told = suite.get(CONTEXTS, {}).get(task, {})
        if len(wanted) == 1 and (one := told.get(wanted.pop())):
            pool = tuple(
                Context(each["text"], each["placement"], false_share=each.get("false_share"))
                for each in one["pool"]
            )
            lengths = (float(one.get(f"{what}_tokens", "nan")) for what in ("prompt", "context"))
            drawn = {name: bool(one.get(name)) for name in ("by_example", "named")}
            found[str(task)] = StoredContexts(Contexts(pool, **drawn), *lengths)
    return found


def of(results: StoredResults) -> dict[str, StoredContexts]:
    """`stored` of a suite's results."""
    return stored(results.suite, results.cells)
