"""Which of a method's choices an effect comes from, where a task's methods hold the corners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from opcd_bench.hashing import digest
from opcd_bench.report.analysis import statistics
from opcd_bench.report.analysis.load import TEST, StoredResults
from opcd_bench.report.analysis.pairing import by_seed
from opcd_bench.report.analysis.standing import Standing, measures, standings
from opcd_bench.report.analysis.statistics import Floats

EFFECTS = [
    "task", "measured", "factor", "levels", "effect", "methods", "learning_rates", "seeds", "note",
]  # fmt: skip

FACTORS = ("writer", "direction", "support", "gradient", "teacher weights", "reads", "rows")
FIRST = ("student", "reverse_kl", "stop_gradient", "full", "context")
"""An effect is of these levels minus the other; of two others, of the first by name."""

SUMMED_OVER = {
    "reverse_kl": "student_top_k",
    "skew_reverse": "student_top_k",
    "forward_kl": "teacher_top_k",
    "skew_forward": "teacher_top_k",
}
"""Whose top-k a divergence of this direction weighs its sum by."""

OWNER = (
    "the owner of the support changes with the direction: a forward KL sums over the teacher's "
    "top-k, a reverse KL over the student's"
)

Coordinates = Mapping[str, str]


@dataclass(frozen=True)
class _Effect:
    """A contrast of corner methods: the sum of ``weights`` x scores."""

    factor: str
    levels: str
    corners: tuple[str, ...]
    weights: tuple[float, ...]
    note: str


def effects(results: StoredResults) -> pd.DataFrame:
    """One row a (task, measured, effect); ``measured`` is "test" or a retention task.

    Of every two factors whose four corner methods are there, all else equal: the main effect of
    each (the mean of its two simple effects) and the interaction (the difference of the two, not
    halved; 0 where the effects add up). Where two methods differ in one factor and no such square
    holds both: their plain difference. ``levels`` says what is subtracted from what, ``methods``
    which corners stand behind it, ``note`` what else differs.

    ``effect``: a share, paired by (example, seed) at each method's headline rate over the ``seeds``
    that all corners ran, with an interval over examples and, where these are several, seeds; it is
    not corrected for the number of effects. A factor's effect is that of the choice with
    its own best rate, where the rates differ; on retention the scores after training are compared,
    without squares of a method that stands at the base, which was not trained.
    """
    described = _described(results)
    rows: list[dict[str, Any]] = []
    for task, methods in standings(results).items():
        known = {m.method: m for m in methods if (task, m.method) in described}
        found = list(_effects({name: described[task, name] for name in known}))
        for measured in measures(methods):
            scored = {
                name: m.scores[measured]
                for name, m in known.items()
                if measured in m.scores and not (m.still and measured != TEST)
            }
            pairing: dict[tuple[str, ...], tuple[Floats, ...]] = {}
            for effect in found:
                names = effect.corners
                if not all(name in scored for name in names):
                    continue
                if names not in pairing:
                    pairing[names] = by_seed(*(scored[name] for name in names))
                row = _row(effect, [known[name] for name in names], pairing[names])
                rows.append({"task": task, "measured": measured, **row})
    return pd.DataFrame(rows, columns=EFFECTS)


def _row(effect: _Effect, corners: Sequence[Standing], scores: Sequence[Floats]) -> dict[str, Any]:
    contrast = sum(w * s for w, s in zip(effect.weights, scores, strict=True))
    return {
        "factor": effect.factor,
        "levels": effect.levels,
        "effect": statistics.mean_over_seeds(np.asarray(contrast)),
        "methods": effect.corners,
        "learning_rates": tuple(corner.learning_rate for corner in corners),
        "seeds": tuple(sorted(set.intersection(*(set(corner.seeds) for corner in corners)))),
        "note": effect.note,
    }


def _described(results: StoredResults) -> dict[tuple[str, str], Coordinates]:
    """(task, method) -> its factors' levels, of the finished cells."""
    done = results.cells[results.cells["state"] == "done"] if len(results.cells) else results.cells
    return {
        (task, method): coordinates(description)
        for task, method, description in zip(
            *(done[name] for name in ("task", "method", "description")), strict=True
        )
    }


def coordinates(description: Mapping[str, Any]) -> Coordinates:
    """Factor -> level as text; ``rest`` is all of the loss that is no factor.

    ``support`` is whose top-k, how many, and what becomes of the mass outside it. A top-k of the
    side that the direction weighs by is "own": so a reverse KL over the student's top-k and a
    forward KL over the teacher's differ in direction alone.
    """
    writer, loss, teacher = (description[key] for key in ("writer", "loss", "teacher"))
    kind = writer["kind"]
    if kind == "mixture":
        kind = f"mixture {writer['teacher_share']:g}"
    elif kind == "stored":
        kind = f"stored {writer['sha256']}"
    if writer.get("reads", "context") != "context":
        kind += f", {writer['reads']}"
    rate = "" if teacher["rate"] is None else f" {teacher['rate']:g}"
    by = f" by {teacher['by']}, {teacher['by_reads']}" if "by" in teacher else ""
    # What comes before is no factor: methods that begin otherwise are no corners of one square.
    begins = f"begins {digest(description['begins'])}" if "begins" in description else ""
    found = {
        "writer": kind,
        "teacher weights": f"{teacher['weights']}{rate}{by}",
        "reads": teacher["reads"],
        "rows": teacher["rows"],
    }
    if "callable" in loss:
        own = f"{loss['callable']} {loss['source_hash']}"
        return {**found, "direction": own, "support": "", "gradient": "", "rest": begins}
    if "direction" not in loss:  # of rewards, or one that changes with training
        own = f"{loss['id']} {digest(loss)}"
        return {**found, "direction": own, "support": "", "gradient": "", "rest": begins}
    skew = [f"{loss[key]:g}" for key in ("beta", "alpha") if loss[key] is not None]
    rest = ("estimator", "clip", "baseline", "importance_weight", "missing_ids")
    return {
        **found,
        "direction": " ".join([loss["direction"], *skew]),
        "support": _support(loss),
        "gradient": loss["gradient"],
        "rest": ", ".join([*(f"{key} {loss[key]}" for key in rest), *filter(None, [begins])]),
    }


def _support(loss: Mapping[str, Any]) -> str:
    name = loss["support"]
    if name == SUMMED_OVER.get(loss["direction"]):
        name = "own_top_k"
    if loss["k"] is not None:
        of = "" if "top_k" in name else " of top_k"  # of a union or an intersection
        name = f"{name}{of}".replace("top_k", f"top-{loss['k']}")
    outside = "" if loss["outside"] == "none" else f", {loss['outside']}"
    return f"{name.replace('_', ' ')}{outside}"


def _effects(methods: Mapping[str, Coordinates]) -> Iterator[_Effect]:
    """Squares first, then what differs in one factor and is in no square of that factor."""
    covered: set[tuple[str, frozenset[str]]] = set()
    for f, g in combinations(FACTORS, 2):
        for corners in _squares(methods, f, g):
            (a, b), (c, d) = corners
            for factor, pairs in ((f, ((a, c), (b, d))), (g, ((a, b), (c, d)))):
                covered |= {(factor, frozenset(pair)) for pair in pairs}
            yield from _square(methods, f, g, (a, b, c, d))
    for one, two in combinations(sorted(methods), 2):
        differs = [key for key in methods[one] if methods[one][key] != methods[two][key]]
        if len(differs) == 1 and differs[0] in FACTORS:
            factor = differs[0]
            if (factor, frozenset((one, two))) not in covered:
                a, b = sorted((one, two), key=lambda name: _rank(methods[name][factor]))
                levels = f"{methods[a][factor]} - {methods[b][factor]}"
                note = _note(methods, factor, (a, b))
                yield _Effect(factor, levels, (a, b), (1.0, -1.0), note)


def _squares(
    methods: Mapping[str, Coordinates], f: str, g: str
) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """((f1 g1, f1 g2), (f2 g1, f2 g2)) of methods that are alike in all but the factors f and g."""
    alike: dict[tuple[str, ...], dict[tuple[str, str], str]] = {}
    for name in sorted(methods):
        levels = methods[name]
        others = tuple(levels[key] for key in sorted(levels) if key not in (f, g))
        alike.setdefault(others, {}).setdefault((levels[f], levels[g]), name)
    for others in sorted(alike):
        at = alike[others]
        of_f, of_g = (sorted({levels[i] for levels in at}, key=_rank) for i in (0, 1))
        for f1, f2 in combinations(of_f, 2):
            for g1, g2 in combinations(of_g, 2):
                if all(corner in at for corner in ((f1, g1), (f1, g2), (f2, g1), (f2, g2))):
                    yield (at[f1, g1], at[f1, g2]), (at[f2, g1], at[f2, g2])


def _square(
    methods: Mapping[str, Coordinates], f: str, g: str, corners: tuple[str, str, str, str]
) -> Iterator[_Effect]:
    a, b, c, _ = corners
    f1, f2 = methods[a][f], methods[c][f]
    g1, g2 = methods[a][g], methods[b][g]
    note = _note(methods, g if g == "direction" else f, corners)
    half = 0.5
    yield _Effect(f, f"{f1} - {f2}", corners, (half, half, -half, -half), note)
    yield _Effect(g, f"{g1} - {g2}", corners, (half, -half, half, -half), note)
    both = f"({f1} - {f2}) under {g1} - ({f1} - {f2}) under {g2}"
    yield _Effect(f"{f} x {g}", both, corners, (1.0, -1.0, -1.0, 1.0), note)


def _note(methods: Mapping[str, Coordinates], factor: str, corners: Sequence[str]) -> str:
    own = any(methods[name]["support"].startswith("own ") for name in corners)
    return OWNER if own and factor == "direction" else ""


def _rank(level: str) -> tuple[bool, str]:
    return (level not in FIRST, level)
