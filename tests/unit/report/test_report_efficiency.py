"""How soon methods learn: areas by hand, censoring kept apart, intervals over seeds and items."""

import math

import numpy as np
import pytest
from report_frames import Suite

from opcd_bench.report.analysis import efficiency
from opcd_bench.report.analysis.learning import AREA, columns
from opcd_bench.report.analysis.reached import Reached

ITEMS = 10
BASE, CEILING = [0.0] * ITEMS, [1.0] * ITEMS


def right(share):
    return [1.0] * round(share * ITEMS) + [0.0] * (ITEMS - round(share * ITEMS))


def suite(ceiling=CEILING, **methods):
    """``a=[[0, 0.5, 1.0], …]``: a method's dev accuracy at steps 0, 10, 20, a list a seed."""
    made = Suite("toy").anchor("base", "toy", BASE).anchor("ceiling", "toy", ceiling)
    for name, seeds in methods.items():
        for seed, curve in enumerate(seeds):
            dev = {10 * k: right(share) for k, share in enumerate(curve)}
            steps = 10 * (len(curve) - 1)
            trained = [100.0 * (k + 1) for k in range(steps)]
            made.cell(name, seed=seed, test=right(curve[-1]), dev=dev, chosen=steps,
                      student_tokens_trained=trained, eos_rate=[1.0] * steps)  # fmt: skip
    return made.results()


def reached(results, share=0.5, method="a"):
    rows = efficiency.reaches(results).set_index(["method", "share"])
    return rows.loc[(method, share)]


def test_the_area_is_the_mean_height_of_the_curve_as_a_share_of_the_gap():
    """0, 0.5, 1.0 at 0, 10, 20 steps: the mean is 0.5; of a gap of 0.8, 0.625."""
    (row,) = efficiency.areas(suite(a=[[0, 0.5, 1.0]])).itertuples()
    assert row.area.value == pytest.approx(0.5)
    (row,) = efficiency.areas(suite(ceiling=right(0.8), a=[[0, 0.5, 1.0]])).itertuples()
    assert row.area.value == pytest.approx(0.625)


def test_steps_and_tokens_are_read_off_the_curve_between_evaluations():
    """It is at 0.6 after ten steps, so at 0.5 after 10 x 5 / 6; a step has 100 tokens."""
    row = reached(suite(a=[[0, 0.6, 1.0]]))
    assert row["steps"].value == pytest.approx(10 * 5 / 6)
    assert row["tokens"].value == pytest.approx(1000 * 5 / 6)
    assert row["reached"] == 1 and (row["steps"].limit, row["tokens"].limit) == (20, 2000)


def test_what_was_never_reached_is_more_than_all_and_in_no_mean():
    row = reached(suite(a=[[0, 0.1, 0.4], [0, 0.2, 0.3]]))
    assert math.isinf(row["steps"].value) and row["steps"].text().startswith("> 20")
    assert row["tokens"].text().startswith("> 2,000") and row["reached"] == 0


def test_a_seed_that_did_not_arrive_is_not_averaged_with_one_that_did():
    """The mean curve 0, 0.4, 0.6 is half way after 15 steps; one of two seeds was there at 10."""
    row = reached(suite(a=[[0, 0.6, 0.9], [0, 0.2, 0.3]]))
    assert row["steps"].value == pytest.approx(15) and row["reached"] == 1
    assert math.isinf(row["steps"].high)  # with the other seed alone it is not reached
    assert row["steps"].text().endswith("> 20]")


def test_reached_as_it_is_printed():
    assert Reached(12.44, 10.0, 16.1, 30).text() == "12.4 [10.0, 16.1]"
    assert Reached(1234.4, 1000.0, math.inf, 9000).text() == "1,234 [1,000, > 9,000]"
    assert Reached(math.nan, math.nan, math.nan, 30).text() == "–"
    assert Reached(5.0, math.nan, math.nan, 30).text() == "5.0"


def test_without_a_gap_or_scores_along_the_way_there_is_no_efficiency():
    flat = suite(ceiling=BASE, a=[[0, 0.5]])
    assert efficiency.areas(flat).empty and efficiency.reaches(flat).empty
    once = Suite("toy").anchor("base", "toy", BASE).anchor("ceiling", "toy", CEILING)
    once.cell("a", test=right(0.5), dev={10: right(0.5)})
    assert efficiency.areas(once.results()).empty
    assert columns(once.results(), ("toy", "a", 1e-3), (0,)) == {}
    empty = Suite("toy").results()
    assert list(efficiency.areas(empty)) == efficiency.AREAS
    assert list(efficiency.reaches(empty)) == efficiency.REACHES


def test_the_columns_of_the_table_are_those_of_the_frames():
    results = suite(a=[[0, 0.5, 1.0], [0, 0.4, 1.0]])
    found = columns(results, ("toy", "a", 1e-3), (0, 1))
    assert found[AREA] == efficiency.areas(results)["area"].iloc[0]
    assert found["steps to 80%"] == reached(results, 0.8)["steps"]
    assert list(found) != [] and found["tokens to 95%"].limit == 2000


def test_the_interval_of_the_area_holds_its_truth():
    """200 suites of three seeds that differ; the mean curve is 0, 0.35, 0.7, its area 0.35."""
    draw, hits = np.random.default_rng(0), 0
    for _ in range(200):
        made = Suite("toy").anchor("base", "toy", [0.0] * 60).anchor("ceiling", "toy", [1.0] * 60)
        for seed in range(3):
            level = np.clip(draw.normal(0.35, 0.05), 0, 1)
            hard = draw.random(60)
            dev = {0: np.zeros(60), 10: (hard < level) * 1.0, 20: (hard < 2 * level) * 1.0}
            made.cell("a", seed=seed, test=[1.0] * 60, dev=dev, chosen=20)
        area = efficiency.areas(made.results())["area"].iloc[0]
        hits += area.low <= 0.35 <= area.high
    assert 0.88 <= hits / 200 <= 1.0
