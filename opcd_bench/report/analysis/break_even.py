"""Break-even: after how many queries training has paid for the context that it saves reading."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from opcd_bench.report.analysis import contexts, headline, statistics
from opcd_bench.report.analysis.contexts import StoredContexts
from opcd_bench.report.analysis.load import TEST, StoredResults
from opcd_bench.report.analysis.statistics import Interval

SHAPES = "model_shapes"
"""Of suite.json: "student" and "larger" -> parameters, layers, attention_width."""
COLUMNS = [
    "task", "method", "learning_rate", "seeds", "gain", "gap closed", "context tokens",
    "prompt tokens", "response tokens", "training", "saved", "saved beside a cache", "queries",
    "queries beside a cache",
]  # fmt: skip
FORWARD, TRAIN = 2.0, 6.0
"""FLOPs a parameter and token: reading it; reading it and going back."""


@dataclass(frozen=True)
class Shape:
    """What arithmetic per token depends on."""

    parameters: int
    layers: int
    attention_width: int

    def reading(self, tokens: float) -> float:
        """FLOPs of reading or writing that many tokens, what they attend to left out."""
        return FORWARD * self.parameters * tokens

    def attending(self, pairs: float) -> float:
        """FLOPs of that many pairs of a token and one that it attends to."""
        return 4.0 * self.layers * self.attention_width * pairs

    def kept(self, context: float, rest: float) -> float:
        """FLOPs that a context costs a query of ``rest`` tokens when its keys are in a cache."""
        return self.attending(context * rest)

    def told(self, context: float, rest: float) -> float:
        """FLOPs that it costs when it is read anew."""
        return self.reading(context) + self.attending(context**2 / 2) + self.kept(context, rest)


def break_even(results: StoredResults) -> pd.DataFrame:
    """One row a (task, method) at its headline rate; columns `COLUMNS`, costs in FLOPs.

    ``training``: of one run, mean over its seeds: writing the responses, scoring them by the
    teacher, and forward and backward passes of the student (2 and 6 FLOPs a parameter and token;
    the search for the learning rate is left out). ``saved``: what one query costs less without the
    context, when it is read anew each time; ``saved beside a cache``: when its keys and values are
    kept, so that only attending to them is saved. ``queries``: training over saved; infinite where
    the interval of the ``gain`` (test accuracy less the base's) reaches down to 0, for what is not
    known without the context saves no reading of it. ``gap closed``: how much a query without the
    context is worth of one with it. No row where
    the suite does not say how long contexts are (an older version), or lacks a model's shape.
    """
    told = contexts.of(results)
    shapes = {name: Shape(**shape) for name, shape in results.suite.get(SHAPES, {}).items()}
    rows = []
    for point in headline.points(results).itertuples():
        runs = headline.runs_of(results, point)
        if point.task in told and told[point.task].context_tokens > 0 and "student" in shapes:
            row = _row(told[point.task], shapes, runs, _replies(results, runs))
            if row is not None:
                gain = _gain(results, point)
                closed = _gap_closed(results, point)
                key = (point.task, point.method, point.learning_rate, tuple(point.seeds))
                head = (*key, gain, closed)
                found = dict(zip(COLUMNS, (*head, *row), strict=True))
                if gain.low <= 0:
                    found |= dict.fromkeys(("queries", "queries beside a cache"), math.inf)
                rows.append(found)
    return pd.DataFrame(rows, columns=COLUMNS)


def _gain(results: StoredResults, point: Any) -> Interval:
    scores = results.finals[point.task, point.method, point.learning_rate][TEST]
    return statistics.difference(scores, results.anchor("base", point.task, TEST))


def _gap_closed(results: StoredResults, point: Any) -> Interval:
    scores = results.finals[point.task, point.method, point.learning_rate][TEST]
    base, ceiling = (
        results.anchor("base", point.task, TEST), results.ceiling(point.task, point.method),
    )  # fmt: skip
    return statistics.gap_closed(scores, base, ceiling)


def _replies(results: StoredResults, runs: pd.DataFrame) -> float:
    """Responses that a run trained on, mean over the runs; NaN where it was not logged."""
    trains = results.trains[results.trains["run"].isin(runs["run"])]
    if "replies" not in trains or runs.empty:
        return math.nan
    return float(trains["replies"].sum()) / len(runs)


def _row(
    told: StoredContexts, shapes: Mapping[str, Shape], runs: pd.DataFrame, replies: float
) -> tuple[float, ...] | None:
    described = runs["description"].iloc[0]
    teacher, writer = described["teacher"], described["writer"]
    student = shapes["student"]
    teaching = shapes.get("larger") if teacher["weights"] == "larger" else student
    if teaching is None or not replies > 0:
        return None
    trained = float(runs["student_tokens_trained"].mean())
    scored = float(runs["teacher_tokens_scored"].mean())
    context, prompt = told.context_tokens, told.prompt_tokens
    response = trained / replies
    rest = prompt + response
    reading = teaching.told(context, rest)
    share = float(writer["teacher_share"]) if writer["kind"] != "stored" else 0.0
    cost = TRAIN * student.parameters * replies * rest
    if writer["kind"] != "stored":
        own = student.reading(replies * rest)
        cost += (1 - share) * own + share * (teaching.reading(replies * rest) + replies * reading)
    if scored > 0:
        cost += teaching.reading(replies * rest)
        cost += replies * reading if teacher["reads"] == "context" else 0.0
    anew, kept = student.told(context, rest), student.kept(context, rest)
    return context, prompt, response, cost, anew, kept, cost / anew, cost / kept
