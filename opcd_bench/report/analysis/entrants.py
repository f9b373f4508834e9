"""Models that were scored and not trained here: entrants and interpolations, against the base."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from opcd_bench.config.measures import NATS
from opcd_bench.report.analysis import load, statistics
from opcd_bench.report.analysis.clusters import clustered
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.store.suite_dir import ENTRANT_SCORES, SHARED, SharedDir

INTERPOLATION = "interpolation"
"""The kind of what lies between the base and a trained student."""
COLUMNS = [
    "task", "name", "kind", "method", "share", "learning_rate", "seeds", "plain", "base", "gain",
]  # fmt: skip


def frame(results: StoredResults) -> pd.DataFrame:
    """One row a (task, entrant) or (task, method, rate, share); empty where nothing was entered.

    ``kind``: "checkpoint" or "interpolation"; the latter have ``method``, ``share`` of the way from
    the base to the trained student, and its ``learning_rate``. ``plain``, ``base`` and ``gain``
    (paired) are Intervals over test; each retention task has ``<name> after`` and ``<name>
    change``, of a measure in nats too. ``seeds`` counts each scored model once, however often and
    from wherever it was given, and with however many seeds it was sampled from.
    """
    groups: dict[tuple[Any, ...], dict[Any, Mapping[str, Any]]] = {}
    for entered in results.suite.get(ENTRANT_SCORES, []):
        key = tuple(entered.get(name) for name in ("task", "name", "learning_rate"))
        groups.setdefault(key, {})[_scored(entered)] = entered
    rows = [_row(results, _alike(list(entered.values()))) for entered in groups.values()]
    more = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    return pd.DataFrame(rows, columns=[*COLUMNS, *more])


def in_nats(results: StoredResults, columns: Iterable[str]) -> set[str]:
    """Which columns of `frame` are of measures in nats."""
    nats = {*results.nats_base["measured"]}
    return {n for n in columns if n.removesuffix(" after").removesuffix(" change") in nats}


def _alike(entered: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without the interpolations that an earlier version rounded, where there are exact ones."""
    return [one for one in entered if "dtype" in one] or entered


def _trained(entered: Mapping[str, Any]) -> Any:
    """What counts as a seed: an interpolation's of its training, a checkpoint's weights.

    The seeds that a checkpoint was sampled from with a temperature are no trainings of it.
    """
    return entered["seed"] if entered["kind"] == INTERPOLATION else entered["weights"]


def _scored(entered: Mapping[str, Any]) -> Any:
    """Whose samples are counted once: an interpolation of a training, a checkpoint's on test."""
    if entered["kind"] == INTERPOLATION:
        return entered["seed"]
    (test,) = [one for one in entered["scores"] if one["measured"] == "test"]
    return test["shared"], test["name"]


def _row(results: StoredResults, entered: list[Mapping[str, Any]]) -> dict[str, Any]:
    first = entered[0]
    task = str(first["task"])
    row = {
        **{name: first.get(name) for name in ("task", "name", "kind", "method", "share")},
        "learning_rate": first.get("learning_rate"),
        "seeds": len(set(map(_trained, entered))),
    }
    for measured in dict.fromkeys(one["measured"] for e in entered for one in e["scores"]):
        after, in_nats = _samples(results, entered, measured)
        before = _base(results, task, measured, in_nats)
        value = statistics.mean(after, shares=not in_nats)
        change = statistics.difference(after, before, shares=not in_nats)
        if measured == "test":
            row |= {"plain": value, "base": statistics.mean(before), "gain": change}
        else:
            row |= {f"{measured} after": value, f"{measured} change": change}
    return row


def _samples(
    results: StoredResults, entered: list[Mapping[str, Any]], measured: str
) -> tuple[pd.DataFrame, bool]:
    """The stored samples of a measure, of all seeds; and whether they are in nats."""
    found, in_nats = [], False
    trainings = list(dict.fromkeys(map(_trained, entered)))
    for one in entered:
        for score in one["scores"]:
            if score["measured"] != measured:
                continue
            in_nats = score["shared"].startswith(f"entrant-{NATS}-")
            rows = SharedDir(results.root / SHARED / score["shared"]).get(score["name"])[1:]
            seed = trainings.index(_trained(one))
            found += [(seed, *load.sample(r, measured != "test")) for r in rows]
    samples = load.typed(pd.DataFrame(found, columns=["seed", *load.SAMPLE]))
    return clustered(samples, results.suite), in_nats


def _base(results: StoredResults, task: str, measured: str, in_nats: bool) -> pd.DataFrame:
    if in_nats:
        return results.nats_base[results.nats_base["measured"] == measured]
    return results.anchor("base", task, measured)
