"""The comparison as one data frame: what each method gained, what it forgot, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from opcd_bench.config import headline_rule
from opcd_bench.config.headline_rule import DevScore
from opcd_bench.report.analysis import controls, floors, planned, statistics
from opcd_bench.report.analysis import learning as learnt
from opcd_bench.report.analysis.comparable import assert_comparable
from opcd_bench.report.analysis.detectable import detectable
from opcd_bench.report.analysis.load import TEST as TEST
from opcd_bench.report.analysis.load import WITHOUT_LOOPS, StoredResults
from opcd_bench.report.analysis.planned import Key
from opcd_bench.report.analysis.statistics import Interval

COLUMNS = [
    "task", "learning_rate", "method", "seeds", "state", "headline", "steps", "plain", "floor",
    "base", "ceiling", "gap closed", "parsed", "mde", "tokens written", "tokens scored", "seconds",
    *learnt.COLUMNS,
]  # fmt: skip
POINTS = ["task", "method", "learning_rate", "seeds"]
LOOPS = {
    "plain": "without loops",
    "base": "without loops of base",
    "ceiling": "without loops of ceiling",
}
"""A column -> the same accuracy where responses that loop count as wrong."""
LEAKS = {"mentions context": "mentions", "copies context": "copied"}
USUAL = ("ceiling", "ceiling-larger")
KEPT = ("before", "after", "change")
CUT = ("cut", "cut of base")
IN_NATS = ("in nats before", "in nats after training", "in nats change")


def headline(results: StoredResults) -> pd.DataFrame:
    """One row a (task, learning rate, method): gains, forgetting, intervals, cost.

    Shares in [0, 1], Interval columns hold ``statistics.Interval``. ``seeds``: how many are done;
    ``state``: "done", or what is missing and why; ``headline``: whether this is the rate of
    `points`; ``floor``: the best policy that does not use the context; ``mde``: `detectable`.
    Tokens and seconds are means over the seeds: written by whoever writes, scored by the teacher,
    spent on writing and training. `learning.COLUMNS`: how it learnt, on dev. Each retention task
    has ``<name> before``, ``after``, ``change`` and ``mde <name>``. ``ceiling``: the method's own
    teacher, told; where the suite's larger one teaches some methods, ``larger`` says which; where
    some read something else than the shared context, or are adapted, ``measured against`` names the
    ceiling; where some methods are controls, ``control`` does. Where the suite stores what its
    teachers were told, ``<leak>`` and ``<leak> of base`` for the two of `LEAKS`, on test responses
    without context: the share that speak of a context, and the share of their words' 4-grams that
    stand in it and not in the prompt. Where responses loop, the columns of `LOOPS`; where the
    length limit cut retention responses, ``<name> cut`` and ``<name> cut of base``, their shares.
    ``runs``: the finished runs. A row without a finished cell has no numbers.

    By task, then the rows of ``headline``, methods in the order of the suite, rates ascending.
    StoreError where the cells cannot be compared.
    """
    if not results.cells.empty:
        assert_comparable(results)
    stands = {
        (point.task, point.method): point.learning_rate for point in points(results).itertuples()
    }
    order = {name: number for number, name in enumerate(results.suite.get("methods", []))}
    tasks = {name: number for number, name in enumerate(results.suite.get("tasks", []))}
    keys = sorted(
        {*_begun(results), *planned.planned(results.suite)},
        key=lambda key: (
            tasks.get(key[0], len(tasks)),
            key[0],
            stands.get(key[:2]) != key[2],
            order.get(key[1], len(order)),
            key[1],
            key[2],
        ),
    )
    measures = sorted({name for scores in results.finals.values() for name in scores} - {TEST})
    kept = [column for name in measures for column in _columns_of(name)]
    kept += [f"{name} {when}" for name in in_nats(results) for when in IN_NATS]
    parsed = _parsed(results)
    rows = [_row(results, key, stands, parsed) for key in keys]
    taught = [name for name in ("larger", "control") if any(row.get(name) for row in rows)]
    if any(row[of] != row[name] for row in rows if row["runs"] for name, of in LOOPS.items()):
        taught += LOOPS.values()
    for name in (f"{name} {of}" for name in measures for of in CUT):
        if any(row.get(name, 0.0) > 0 for row in rows):
            taught.append(name)
    if not results.leaks.empty:
        taught += [name for leak in LEAKS for name in (leak, f"{leak} of base")]
    if any(row.get("measured against", "ceiling") not in USUAL for row in rows):
        taught.append("measured against")
    return pd.DataFrame(rows, columns=[*COLUMNS, *kept, *taught, "runs"])


def points(results: StoredResults) -> pd.DataFrame:
    """The one rate at which each (task, method) is compared, and its finished seeds.

    `headline_rule.headline_rate` chooses it, by the rule that the suite was run with: of the rates
    with the most finished seeds, by dev accuracy at the chosen steps. It never reads test. By task
    and method; a pair without a finished cell has no row.
    """
    done = results.cells[results.cells["state"] == "done"]
    dev, rule = _dev(results), headline_rule.rule_of(results.suite)
    rows = []
    for (task, method), swept in done.groupby(["task", "method"], sort=True):
        cells = dict(iter(swept.groupby("learning_rate")))
        scored = {
            float(rate): [dev.get(run, UNSCORED) for run in of_rate["run"]]
            for rate, of_rate in cells.items()
        }
        rate = headline_rule.headline_rate(rule, scored)
        seeds = tuple(sorted({int(seed) for seed in cells[rate]["seed"]}))
        rows.append((task, method, rate, seeds))
    return pd.DataFrame(rows, columns=POINTS).astype({"learning_rate": float})


def runs_of(results: StoredResults, point: Any) -> pd.DataFrame:
    """The finished runs behind a point of `points`: rows of ``results.cells``."""
    cells = results.cells
    mine = (cells["state"] == "done") & cells["seed"].isin(point.seeds)
    for name in ("task", "method", "learning_rate"):
        mine &= cells[name] == getattr(point, name)
    return cells[mine]


def standing_still(table: pd.DataFrame) -> list[tuple[str, str]]:
    """(task, method) whose chosen step is 0, the base, in every training that is compared.

    ``table``: `headline`.
    """
    return [
        (str(row["task"]), str(row["method"]))
        for row in table[table["headline"].astype(bool) & (table["seeds"] > 0)].to_dict("records")
        if not any(row["steps"])
    ]


def _columns_of(name: str) -> list[str]:
    return [*(f"{name} {when}" for when in KEPT), f"mde {name}"]


def _begun(results: StoredResults) -> list[Key]:
    cells = results.cells
    columns = (cells["task"], cells["method"], cells["learning_rate"])
    return [
        (str(task), str(method), float(rate)) for task, method, rate in zip(*columns, strict=True)
    ]


def _row(
    results: StoredResults,
    key: Key,
    stands: Mapping[tuple[str, str], float],
    parsed: Mapping[str, float],
) -> dict[str, Any]:
    task, method, rate = key
    cells = _own(results.cells, key)
    done = cells[cells["state"] == "done"].sort_values("seed")
    stands_here = stands.get((task, method)) == rate
    wanted = planned.seeds_planned(results.suite, results.cells, key, headline=stands_here)
    row: dict[str, Any] = {
        "task": task,
        "learning_rate": rate,
        "method": method,
        "seeds": len(done),
        "state": planned.state(cells, wanted),
        "headline": stands_here,
        "runs": list(done["run"]),
    }
    if done.empty:
        return row
    scores = results.finals[key]
    base = results.anchor("base", task, TEST)
    ceiling = results.ceiling(task, method)
    scored = {"plain": scores[TEST], "base": base, "ceiling": ceiling}
    row |= {
        **{LOOPS[name]: _without_loops(of) for name, of in scored.items()},
        "steps": sorted(int(step) for step in done["chosen_step"]),
        "plain": statistics.mean(scores[TEST]),
        "floor": floors.best(results, task)[1],
        "base": statistics.mean(base),
        "ceiling": statistics.mean(ceiling),
        "larger": results.larger(task, method),
        "measured against": results.ceiling_name(task, method),
        "control": controls.is_control(done["description"].iloc[0]),
        "gap closed": statistics.gap_closed(scores[TEST], base, ceiling),
        "parsed": _mean(parsed[run] for run in done["run"] if run in parsed),
        "mde": detectable(results, key),
        "tokens written": _written(done),
        "tokens scored": float(done["teacher_tokens_scored"].mean()),
        "seconds": float(done["seconds"].mean()),
        **learnt.columns(results, key, tuple(done["seed"])),
    }
    for name in sorted(scores.keys() - {TEST}):
        before = results.anchor("base", task, name)
        values = (
            statistics.mean(before),
            statistics.mean(scores[name]),
            statistics.difference(scores[name], before),
            detectable(results, key, name),
        )
        row |= dict(zip(_columns_of(name), values, strict=True))
    return row | _cut(results, key) | _nats(results, key) | _leaked(results, key)


def _cut(results: StoredResults, key: Key) -> dict[str, float]:
    """Of each retention task, which share of responses the length limit cut, after and before."""
    frames = _own(results.cut, key), results.cut_base
    return {
        f"{name} {of}": float(rows["cut"].astype(float).mean())
        for of, frame in zip(CUT, frames, strict=True)
        for name, rows in frame.groupby("measured", sort=True)
    }


def _own(rows: pd.DataFrame, key: Key) -> pd.DataFrame:
    """The rows of a method at a learning rate."""
    task, method, rate = key
    return rows[
        (rows["task"] == task) & (rows["method"] == method) & (rows["learning_rate"] == rate)
    ]


def in_nats(results: StoredResults) -> list[str]:
    """The measures in nats that a finished run has, by name."""
    return sorted({str(name) for name in results.nats["measured"]})


def _nats(results: StoredResults, key: Key) -> dict[str, Any]:
    """What a method's runs come to on each measure in nats, and on the base."""
    row: dict[str, Any] = {}
    for name, after in _own(results.nats, key).groupby("measured", sort=True):
        before = results.nats_base[results.nats_base["measured"] == name]
        values = (
            statistics.mean(before, shares=False),
            statistics.mean(after, shares=False),
            statistics.difference(after, before, shares=False),
        )
        row |= dict(zip((f"{name} {when}" for when in IN_NATS), values, strict=True))
    return row


def _leaked(results: StoredResults, key: Key) -> dict[str, Any]:
    """What a method's responses without context leak of it, and what the base's did before."""
    base = results.leaks_base
    return leaked(_own(results.leaks, key), base[base["measured"] == key[0]], "of base")


def leaked(own: pd.DataFrame, before: pd.DataFrame, called: str) -> dict[str, Interval]:
    """`LEAKS` of responses without context, and those ``before`` as ``<leak> <called>``.

    Of frames as `StoredResults.leaks`; nothing of an empty one.
    """
    found: dict[str, Interval] = {}
    for name, column in LEAKS.items():
        if not own.empty:
            found[name] = statistics.mean(_scores(own, column))
            found[f"{name} {called}"] = statistics.mean(_scores(before, column))
    return found


def _without_loops(samples: pd.DataFrame) -> Interval:
    return statistics.mean(samples.assign(score=samples[WITHOUT_LOOPS]))


def _scores(leaks: pd.DataFrame, column: str) -> pd.DataFrame:
    """One number of each sample, as statistics read it."""
    outcome = leaks[column].notna().map({True: "correct", False: "failed"})
    return leaks.assign(score=leaks[column].astype(float), outcome=outcome)


UNSCORED = DevScore(math.nan, 0)


def _dev(results: StoredResults) -> dict[str, DevScore]:
    """Run -> accuracy on its task's dev split at its chosen step; runs that are done."""
    done = results.cells[results.cells["state"] == "done"]
    chosen = dict(zip(done["run"], done["chosen_step"], strict=True))
    evals = results.evals
    evals = evals[(evals["split"] == "dev") & (evals["measured"] == evals["task"])]
    evals = evals[evals["primary"].astype(bool) & evals["value"].notna()]
    columns = (evals[name] for name in ("run", "step", "value", "n", "n_unscored"))
    return {
        str(run): DevScore(float(value), int(count - unscored))
        for run, step, value, count, unscored in zip(*columns, strict=True)
        if chosen.get(run) == step
    }


def _parsed(results: StoredResults) -> dict[str, float]:
    """Run -> share of its scored test replies with an answer in them, whatever it is worth."""
    evals = results.evals
    rates = evals[(evals["split"] == TEST) & (evals["metric"] == "parse_rate")]
    return {
        str(run): math.nan if value is None else float(value)
        for run, value in zip(rates["run"], rates["value"], strict=True)
    }


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _written(done: pd.DataFrame) -> float:
    """Tokens written for a run, by the student or by whoever wrote what it read; mean over runs."""
    return _mean(
        float(own if description["writer"]["kind"] == "student" else trained)
        for own, trained, description in zip(
            done["tokens_written"],
            done["student_tokens_trained"],
            done["description"],
            strict=True,
        )
    )
