"""How much of the variance of a gain is the teacher, the loss, their interaction, and the seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from opcd_bench.report.analysis import headline
from opcd_bench.report.analysis.crossed import NOTHING, Spread
from opcd_bench.report.analysis.load import TEST, StoredResults
from opcd_bench.report.analysis.pairing import Floats, by_seed
from opcd_bench.report.analysis.statistics import FEWEST_SEEDS

COLUMNS = [
    "task", "teachers", "losses", "seeds", "examples", "source", "share", "spread", "p",
]  # fmt: skip
LACKING = ["task", "teachers", "losses", "methods", "seeds", "fewest", "has"]
AXES = ("teacher", "loss", "seed", "example")
ERRORS = {
    "teacher": "teacher x seed",
    "loss": "loss x seed",
    "teacher x loss": "teacher x loss x seed",
    "teacher x seed": "teacher x loss x seed",
}
"""Source -> how much it would vary with other seeds, which are blocks.

A seed has the same prompts and noise for every method, and a teacher adapted for it is shared by
all losses; so a teacher's luck with its seeds is no evidence for the teacher (the mixed model of
Scheffé 1959, chapter 8, with teacher and loss fixed, seeds and examples drawn)."""
BY_EXAMPLE = " x example"
"""Behind a source's name: how much it would vary with other test examples."""
EXAMPLES = "test examples"
SOURCES = (*ERRORS, EXAMPLES, "seed")


def sensitivity(results: StoredResults) -> pd.DataFrame:
    """A row a source of tasks whose methods cross at least two teachers with at least two losses.

    All that differs between the methods must be these two; the ``seeds`` that all of them finished
    count, and the ``examples`` (or clusters) that all of these scored. ``share``: of the sum of
    squares of test accuracy over the runs, less what seeds and examples alone add to it
    (`shares`); ``spread``: the root of that part per run, in shares of accuracy; 0 where it is
    below 0. ``p``: of the test against both (`p_of`), NaN of their own parts. Tasks without such a
    grid have no rows; those that lack seeds for it are in `lacking`.
    """
    rows: list[dict[str, Any]] = []
    for grid in _grids(results):
        if not grid.enough:
            continue
        squares, freedoms = sums_of_squares(grid.scores_TLSI), degrees(grid.scores_TLSI)
        about = {
            "task": grid.task, "teachers": grid.teachers, "losses": grid.losses,
            "seeds": grid.seeds, "examples": grid.scores_TLSI.shape[-1],
        }  # fmt: skip
        for source, share in shares(squares, freedoms).items():
            per_run = share * _of_runs(squares) / grid.scores_TLSI.size
            spread = math.sqrt(max(per_run, 0.0)) if not math.isnan(per_run) else math.nan
            p = p_of(source, squares, freedoms)
            rows.append({**about, "source": source, "share": share, "spread": spread, "p": p})
    return pd.DataFrame(rows, columns=COLUMNS)


def lacking(results: StoredResults) -> pd.DataFrame:
    """A row a task that crosses teachers and losses and has no analysis yet.

    Its ``methods`` share only ``seeds``; ``fewest``: the methods that have fewest, each ``has`` so
    many.
    """
    rows = [
        {
            "task": grid.task, "teachers": grid.teachers, "losses": grid.losses,
            "methods": len(grid.finished), "seeds": grid.seeds,
            "fewest": tuple(name for name, n in grid.finished.items() if n == fewest),
            "has": fewest,
        }
        for grid in _grids(results)
        if not grid.enough
        for fewest in [min(grid.finished.values())]
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=LACKING)


def p_of(source: str, squares: Mapping[str, float], freedoms: Mapping[str, int]) -> float:
    """Of the test that a source's part is no more than other seeds and examples would give.

    The larger p of two tests. A quasi-F: its mean square by the sum of both errors less what they
    hold both (Clark 1973, for examples that are drawn), with Satterthwaite's degrees of freedom;
    the sum is never below either (`Spread.total`), so it cannot be negative, or vanish while one
    of them varies. And an F against seeds alone, since with the two degrees of freedom of two
    seeds Satterthwaite's are too many.

    Simulated, 3 x 4 grids of four seeds and 200 examples without an effect of the teacher, which
    comes in: 4.6 % where teachers do well on different examples (seeds alone: 36 %), 1.7 % where
    runs differ by the chance of each answer alone, 4.1 % where teachers differ with the seed,
    6.7 % where with both (5.4 % with two seeds).
    """
    if source not in ERRORS:
        return math.nan
    error = _error(source, squares, freedoms)
    if not error.total > 0:
        return 0.0 if squares[source] > 0 else math.nan
    freedom, square = freedoms[source], squares[source] / freedoms[source]
    p = float(stats.f.sf(square / error.total, freedom, error.freedom))
    if not error.seeds > 0:
        return p
    return max(p, float(stats.f.sf(square / error.seeds, freedom, error.seeds_freedom)))


def _error(source: str, squares: Mapping[str, float], freedoms: Mapping[str, int]) -> Spread:
    """How the mean square of a source would vary with other seeds and examples alone."""
    by_example, with_seeds = source + BY_EXAMPLE, ERRORS[source]
    of_both = with_seeds + BY_EXAMPLE
    return Spread(
        count=1,
        examples=squares[by_example] / freedoms[by_example],
        examples_freedom=freedoms[by_example],
        seeds=squares[with_seeds] / freedoms[with_seeds],
        seeds_freedom=freedoms[with_seeds],
        both=squares[of_both] / freedoms[of_both],
    )


def shares(squares: Mapping[str, float], freedoms: Mapping[str, int]) -> dict[str, float]:
    """Of each of `SOURCES` the share of the runs' sum of squares, less what its errors add to it.

    Of `sums_of_squares` and `degrees`. A source of d degrees of freedom has d mean squares of its
    error in it by chance alone (epsilon squared, Kelley 1935): where only seeds and examples differ
    it has 0 on average, and may be below. What examples add so to all sources is theirs, what seeds
    add and the seeds' own part is theirs. They add up to 1; NaN where nothing varies.
    """
    total = _of_runs(squares)
    if not total > 0:
        return dict.fromkeys(SOURCES, math.nan)
    found, of_examples = {}, 0.0
    for source in ERRORS:
        error = _error(source, squares, freedoms)
        extra = freedoms[source] * (error.examples - error.both)
        found[source] = (squares[source] - freedoms[source] * error.seeds - extra) / total
        of_examples += extra / total
    found[EXAMPLES] = of_examples
    return {**found, "seed": 1.0 - sum(found.values())}


def _of_runs(squares: Mapping[str, float]) -> float:
    """The sum of squares of the runs' means, times the examples of each."""
    return sum(value for name, value in squares.items() if AXES[-1] not in name)


def degrees(scores_TLSI: Floats) -> dict[str, int]:
    """The degrees of freedom of each part of `sums_of_squares`."""
    shape = scores_TLSI.shape
    return {_name(axes): math.prod(shape[axis] - 1 for axis in axes) for axes in _subsets()}


def sums_of_squares(scores_TLSI: Floats) -> dict[str, float]:
    """Of scores by teacher, loss, seed and example, what each and their crossings add.

    What rounding leaves of scores that are all alike is 0.
    """
    every = set(range(len(AXES)))
    whole = {
        axes: scores_TLSI.mean(axis=tuple(every - set(axes)), keepdims=True)
        for axes in ((), *_subsets())
    }
    found = {}
    for axes in _subsets():
        below = [one for one in whole if set(one) <= set(axes)]
        effect = sum((-1) ** (len(axes) - len(one)) * whole[one] for one in below)
        square = float((np.broadcast_to(effect, scores_TLSI.shape) ** 2).sum())
        found[_name(axes)] = square if square > NOTHING * scores_TLSI.size else 0.0
    return found


def _subsets() -> list[tuple[int, ...]]:
    """Every choice of at least one of the axes."""
    count = len(AXES)
    return [axes for size in range(1, count + 1) for axes in combinations(range(count), size)]


def _name(axes: Sequence[int]) -> str:
    return " x ".join(AXES[axis] for axis in axes)


class _Grid(NamedTuple):
    """A task whose methods cross teachers and losses; ``finished``: method -> its seeds.

    ``seeds``: those that all share; ``scores_TLSI``: theirs, empty where `enough` is not so.
    """

    task: str
    teachers: int
    losses: int
    finished: Mapping[str, int]
    seeds: tuple[int, ...]
    scores_TLSI: Floats

    @property
    def enough(self) -> bool:
        return len(self.seeds) >= FEWEST_SEEDS and self.scores_TLSI.shape[-1] > 1


def _grids(results: StoredResults) -> Iterator[_Grid]:
    """Of each task what is finished, where that is a grid; else what is planned, where that is."""
    points = headline.points(results)
    for task in sorted({str(task) for task in results.cells["task"]}):
        of_task = points[points["task"] == task]
        rates = dict(zip(of_task["method"], of_task["learning_rate"], strict=True))
        begun = _places(results, task)
        done = {method: place for method, place in begun.items() if method in rates}
        unbegun = {*results.suite.get("methods", [])} - {*begun}
        if _crosses(done):
            chosen, unknown = done, set()
        elif _crosses(begun, len(unbegun)):
            chosen, unknown = begun, unbegun
        else:
            continue
        scored = {
            method: results.finals[task, method, rates[method]][TEST]
            for method in chosen
            if method in rates
        }
        ran = {method: _seeds(scored[method]) if method in scored else set() for method in chosen}
        ran |= {method: set() for method in sorted(unknown)}
        seeds = tuple(sorted(set.intersection(*ran.values())))
        teachers, losses = (dict.fromkeys(place) for place in zip(*chosen.values(), strict=True))
        scores = _scores(chosen, scored, list(teachers), list(losses)) if seeds else _NONE
        counts = {method: len(own) for method, own in ran.items()}
        yield _Grid(task, len(teachers), len(losses), counts, seeds, scores)


_NONE: Floats = np.empty((0, 0, 0, 0))


def _scores(
    chosen: Mapping[str, _Place],
    scored: Mapping[str, pd.DataFrame],
    teachers: Sequence[str],
    losses: Sequence[str],
) -> Floats:
    """By teacher, loss, seed and example, those that every run scored."""
    at = {place: method for method, place in chosen.items()}
    frames = [scored[at[_Place(teacher, loss)]] for teacher in teachers for loss in losses]
    scores_MSI = np.stack(by_seed(*frames))
    whole_MSI = scores_MSI[..., ~np.isnan(scores_MSI).any(axis=(0, 1))]
    return whole_MSI.reshape(len(teachers), len(losses), *whole_MSI.shape[1:])


def _seeds(samples: pd.DataFrame) -> set[int]:
    return {int(seed) for seed in samples.loc[samples["score"].notna(), "seed"]}


class _Place(NamedTuple):
    """Where a method stands in a grid."""

    teacher: str
    loss: str


def _crosses(places: Mapping[str, _Place], unknown: int = 0) -> bool:
    """Whether methods cross at least two teachers with two losses; ``unknown``: others in it."""
    teachers, losses = ({place[axis] for place in places.values()} for axis in (0, 1))
    return (
        min(len(teachers), len(losses)) > 1
        and len({*places.values()}) == len(places)
        and len(teachers) * len(losses) == len(places) + unknown
    )


def _places(results: StoredResults, task: str) -> dict[str, _Place]:
    """Method -> its place, of all that have begun; empty where they differ in anything else."""
    cells = results.cells[results.cells["task"] == task].drop_duplicates("method")
    described = dict(zip(cells["method"], cells["description"], strict=True))
    if not all({"loss", "teacher", "writer"} <= choices.keys() for choices in described.values()):
        return {}
    if len({_words(choices["writer"]) for choices in described.values()}) > 1:
        return {}
    return {
        str(method): _Place(_words(choices["teacher"]), _words(choices["loss"]))
        for method, choices in described.items()
    }


def _words(choice: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(choice.items()))
