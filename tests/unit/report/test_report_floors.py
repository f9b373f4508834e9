"""Who is shown to be above the floor, and who is not."""

from __future__ import annotations

import types

import pandas as pd

from opcd_bench.report.analysis.floors import AboveFloor, above_floor, best
from opcd_bench.report.analysis.statistics import Interval


def results(**floors):
    return types.SimpleNamespace(suite={"floors": floors})


def rows(ceiling=(0.4, 0.6), **methods):
    """A headline with these intervals, at one learning rate."""
    return pd.DataFrame(
        {
            "task": "toy", "method": name, "headline": True, "seeds": 3,
            "control": name.startswith("control"),
            "plain": Interval(sum(ends) / 2, *ends, 100),
            "ceiling": Interval(sum(ceiling) / 2, *ceiling, 100),
        }
        for name, ends in methods.items()
    )  # fmt: skip


GUESSES = {"majority answer": 0.2, "uniform random": 0.3, "best possible": 1.0}


def test_the_best_of_the_policies_that_read_nothing_is_the_floor():
    assert best(results(toy=GUESSES), "toy") == ("uniform random", 0.3)
    assert str(best(results(), "toy")) == "('', nan)"


def test_an_interval_has_to_lie_above_it():
    table = rows(a=(0.31, 0.5), b=(0.3, 0.5), c=(0.0, 0.1), control_null=(0.0, 0.1))
    assert above_floor(results(toy=GUESSES), table) == {
        "toy": AboveFloor("uniform random", 0.3, True, ("b", "c"), True)
    }


def test_a_ceiling_that_is_not_above_it_is_known():
    (found,) = above_floor(results(toy=GUESSES), rows(ceiling=(0.2, 0.6), a=(0.1, 0.5))).values()
    assert not found.ceiling and not found.some


def test_a_suite_that_stored_none_is_not_judged():
    assert above_floor(results(), rows(a=(0.1, 0.5))) == {}
