"""How training went: what was logged at every step, and dev accuracy where it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from opcd_bench.report.analysis import headline
from opcd_bench.report.analysis.load import CELL, StoredResults

CURVES = [*CELL, "headline", "step", "averaged_steps", "tokens", "metric", "value", "kind"]
LINE = [*CELL, "headline", "metric"]
"""What the points of one line have in common."""
MOST_POINTS = 30
"""Above as many points, a line is of means over neighbouring steps: more cannot be seen."""
NO_DIVERGENCE = "negative_log_likelihood"


class Metric(NamedTuple):
    """A curve's axis label with its unit, and one line on what it says."""

    label: str
    says: str


METRICS: Mapping[str, Metric] = {
    "dev_accuracy": Metric(
        "dev accuracy (%)",
        "Student without context, on dev. Learning rate and step are chosen on dev, so "
        "this is too optimistic.",
    ),
    "divergence": Metric(
        "divergence (nats)",
        "Each method's own divergence from its own teacher, of the kind named below the "
        "figure. Comparable between methods only where the kinds are the same. Generalised: what "
        "the masses on the support differ by is added, so that a truncated KL is never negative.",
    ),
    "reverse_kl": Metric(
        "reverse KL (nats)",
        "KL from the student without context to the method's own teacher over the whole "
        "vocabulary, on the responses trained on. That is the in-context teacher unless the name "
        "of the method says otherwise; of SFT with a KL to the base it is the base, so that its "
        "curve is drift.",
    ),
    "student_entropy": Metric(
        "student entropy (nats)", "Student without context, whole vocabulary, per response token."
    ),
    "teacher_entropy": Metric(
        "teacher entropy (nats)", "The method's own teacher, whole vocabulary, on the same tokens."
    ),
    "student_mass": Metric(
        "student mass on support",
        "Student's probability on the support of the loss; the rest is outside the loss.",
    ),
    "teacher_mass": Metric(
        "teacher mass on support", "The teacher's probability on the support of the loss."
    ),
    "top_k_overlap": Metric(
        "top-k overlap", "Share of the student's top-k that is in the teacher's."
    ),
    "log_ratio": Metric(
        "log-ratio on support (nats)",
        "Student's mean of log p - log q inside the support; it drifts to -1 where mass leaks.",
    ),
    "leak": Metric(
        "leak", "2 P(1-P): size of the gradient that a truncated loss adds without a stop-gradient."
    ),
    "negative_share": Metric(
        "share of negative sums",
        "Share of tokens whose truncated sum of p (log p - log q) is negative, which no KL can be.",
    ),
    "reply_length": Metric("response length (tokens)", "Mean length of the responses trained on."),
    "truncation_rate": Metric(
        "truncated responses (%)",
        "Share of the step's responses that were cut at the length limit.",
    ),
    "eos_rate": Metric("ended responses (%)", "Share of responses that ended by themselves."),
    "repeated_4grams": Metric(
        "repeated 4-grams (%)",
        "Share of runs of four tokens in the responses trained on that stand in them before.",
    ),
    "grad_norm": Metric("gradient norm", "Before clipping."),
    "written_accuracy": Metric(
        "rollout accuracy (%)",
        "Accuracy of the responses trained on: that of the in-context teacher where it is the "
        "rollout policy.",
    ),
}
"""Every curve, in the order of the page. Values of percentages are shares in [0, 1]."""


def curves(results: StoredResults) -> pd.DataFrame:
    """Long form: one row a (run, step, metric), runs of the sweep and of the headline rates alike.

    ``headline``: whether the run is of the rate at which its method is compared. ``tokens``: reply
    tokens trained on up to and with the step (0 at step 0). ``kind``: which divergence ``value``
    is, None for other metrics. ``averaged_steps``: of how many neighbouring steps, the last of
    which is ``step``, ``value`` is the mean; 1, but for lines of more than `MOST_POINTS`. A
    negative log-likelihood is no divergence and has no such row; a metric that a run did not log,
    or that was not finite, has none either.
    """
    trains = _trained(results.trains)
    dev = _dev(results.evals, trains)
    long = trains.melt(
        id_vars=[*CELL, "step", "tokens", "divergence_kind"],
        value_vars=[name for name in METRICS if name in trains],
        var_name="metric",
    )
    long = long.rename(columns={"divergence_kind": "kind"})
    of_divergence = long["metric"] == "divergence"
    long = long[~(of_divergence & (long["kind"] == NO_DIVERGENCE))]
    long = long.assign(kind=long["kind"].astype(object).where(long["metric"] == "divergence", None))
    parts = [part for part in (dev, long) if not part.empty]
    if not parts:
        return pd.DataFrame(columns=CURVES)
    both = pd.concat(parts, ignore_index=True)
    both["value"] = both["value"].astype(float)
    both = both[np.isfinite(both["value"])]
    stands = {
        (point.task, point.method, point.learning_rate)
        for point in headline.points(results).itertuples()
    }
    keys = zip(both["task"], both["method"], both["learning_rate"], strict=True)
    both["headline"] = [key in stands for key in keys]
    order = {metric: number for number, metric in enumerate(METRICS)}
    both = thinned(both.assign(averaged_steps=1)[CURVES])
    both["order"] = both["metric"].map(order)
    both = both.sort_values([*CELL, "order", "step"], ignore_index=True)
    return both[CURVES]


def thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `CURVES`, the lines of more than `MOST_POINTS` as means over neighbouring steps.

    All long lines of a task are means over as many steps, so that seeds stand at the same ones.
    """
    long = rows.groupby(LINE, dropna=False)["step"].transform("size") > MOST_POINTS
    many = rows[long]
    size = -(-many.groupby("task")["step"].transform("max") // MOST_POINTS)
    many = many.assign(averaged_steps=size, part=(many["step"] - 1) // size)
    means = many.groupby([*LINE, "part"], as_index=False, sort=False, dropna=False).agg(
        {
            "kind": "first",
            "step": "max",
            "averaged_steps": "first",
            "tokens": "max",
            "value": "mean",
        }
    )
    return pd.concat([rows[~long], means[CURVES]], ignore_index=True) if len(many) else rows


def _trained(trains: pd.DataFrame) -> pd.DataFrame:
    """train.jsonl with ``tokens`` cumulative and ``truncation_rate``."""
    if trains.empty:
        return pd.DataFrame(columns=[*CELL, "step", "tokens", "divergence_kind"])
    return trains.assign(
        tokens=trains["student_tokens_trained"],
        truncation_rate=1.0 - trains["eos_rate"].astype(float),
    )


def _dev(evals: pd.DataFrame, trains: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on the task's dev split, at the tokens of its step."""
    if evals.empty:
        return evals
    rows = evals[
        (evals["split"] == "dev") & (evals["measured"] == evals["task"]) & evals["primary"]
    ]
    rows = rows[[*CELL, "step", "value"]].assign(metric="dev_accuracy", kind=None)
    seen = trains[[*CELL, "step", "tokens"]]
    rows = rows.merge(seen, on=[*CELL, "step"], how="left")
    started = rows["step"] == 0
    rows.loc[started, "tokens"] = 0
    return rows
