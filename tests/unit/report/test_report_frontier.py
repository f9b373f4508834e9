"""The frontier's points, the area that they dominate, and how far its interval can be trusted."""

import math

import numpy as np
import pytest
from report_frames import Suite

from opcd_bench.report.analysis import frontier
from opcd_bench.report.analysis.dominated import Fronts, union

BASE = [0.0, 0.0, 0.0, 0.0]
HALF = [1.0, 1.0, 0.0, 0.0]
FULL = [1.0, 1.0, 1.0, 1.0]
KEPT = [1.0, 1.0, 1.0, 0.0]
LESS = [1.0, 0.0, 1.0, 0.0]


def along(*, kept=None, **steps):
    return {"keep": {0: KEPT, 10: KEPT, 20: LESS, **(kept or {}), **steps}}


def swept(suite, method, rate=1e-3, seed=0, *, dev=(HALF, FULL), kept=None, **more):
    """A cell that is scored at steps 0, 10 and 20."""
    steps = {0: BASE, 10: dev[0], 20: dev[1]}
    return suite.cell(
        method,
        rate,
        seed,
        test=FULL,
        kept={"keep": LESS},
        dev=steps,
        along=along(kept=kept),
        **more,
    )


def anchored():
    return (
        Suite()
        .anchor("base", "toy", BASE)
        .anchor("ceiling", "toy", FULL)
        .anchor("base", "keep", KEPT)
    )


def row(frame, **at):
    for name, value in at.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_a_point_is_dev_and_retention_minus_the_base():
    found = frontier.points(swept(anchored(), "good").results())
    late = row(found, method="good", step=20)
    assert (late["gain"].value, late["change"].value) == (1.0, -0.25)
    early = row(found, method="good", step=10)
    assert (early["gain"].value, early["change"].value) == (0.5, 0.0)
    assert (early["gain"].n, early["seeds"]) == (4, (0,))


def test_every_curve_begins_at_the_base():
    found = frontier.points(swept(anchored(), "good").results())
    start = row(found, step=0)
    assert (start["gain"].value, start["change"].value) == (0.0, 0.0)
    assert math.isnan(start["gain"].low)


def test_the_chosen_point_is_the_headline_rate_at_the_step_that_most_seeds_chose():
    suite = anchored()
    for seed, step in ((0, 20), (1, 10), (2, 10)):
        swept(suite, "good", seed=seed, chosen=step)
    swept(suite, "good", rate=1e-2, chosen=20)
    found = frontier.points(suite.results())
    assert [(p.learning_rate, p.step) for p in found[found["chosen"]].itertuples()] == [(1e-3, 10)]


def test_the_front_holds_what_nothing_dominates():
    suite = swept(anchored(), "good")
    swept(suite, "poor", dev=(BASE, HALF))  # gains less and keeps as much at either step
    found = frontier.points(suite.results())
    front = {(p.method, p.step) for p in found[found["pareto"]].itertuples()}
    assert front == {("good", 10), ("good", 20)}


def test_points_rest_on_the_seeds_that_all_cells_have():
    """The headline rate's further seeds are left out: they would not be paired with the sweep."""
    suite = anchored()
    swept(suite, "good", seed=0)
    swept(suite, "good", seed=1, dev=(BASE, BASE))
    swept(suite, "good", rate=1e-2, seed=0)
    found = frontier.points(suite.results())
    assert set(found["seeds"]) == {(0,)}
    assert row(found, learning_rate=1e-3, step=20)["gain"].value == 1.0


def test_shared_seeds_are_averaged_item_by_item():
    suite = anchored()
    swept(suite, "good", seed=0)
    swept(suite, "good", seed=1, dev=(BASE, HALF))
    late = row(frontier.points(suite.results()), step=20)
    assert late["seeds"] == (0, 1)
    assert (late["gain"].value, late["gain"].n) == (0.75, 4)


def test_one_cell_without_the_common_seed_does_not_empty_the_frontier():
    suite = anchored()
    swept(suite, "good", seed=0)
    swept(suite, "fine", seed=0)
    swept(suite, "late", seed=1)
    found = frontier.points(suite.results())
    assert set(found["method"]) == {"fine", "good"}


def test_an_unscored_item_is_in_no_mean():
    found = frontier.points(
        swept(anchored(), "good", dev=(HALF, [1.0, math.nan, 0.0, 0.0])).results()
    )
    late = row(found, step=20)["gain"]
    assert (late.value, late.n) == (pytest.approx(1 / 3), 3)


def test_cells_that_are_not_finished_have_no_point():
    suite = swept(anchored(), "good")
    swept(suite, "half", state="not finished")
    assert set(frontier.points(suite.results())["method"]) == {"good"}


def test_the_area_is_that_of_the_staircase():
    """(1/2, all kept) and (1, 2/3 kept) of a whole gap: 1/2 + 1/2 x 2/3."""
    found = frontier.areas(swept(anchored(), "good").results())
    assert row(found, method="good")["area"].value == pytest.approx(5 / 6)


def test_the_area_is_a_share_of_the_gap_and_of_what_was_there():
    suite = Suite().anchor("base", "toy", [0.0, 0.0, 0.0, 1.0]).anchor("ceiling", "toy", FULL)
    suite.anchor("base", "keep", KEPT)
    found = frontier.areas(swept(suite, "good").results())
    assert row(found, method="good")["area"].value == pytest.approx(5 / 6 / 0.75)


def test_a_method_that_gains_nothing_dominates_nothing():
    suite = Suite().anchor("base", "toy", BASE).anchor("ceiling", "toy", FULL)
    suite.anchor("base", "keep", KEPT)
    suite.cell("worse", dev={0: HALF, 10: BASE}, along=along(), test=BASE, kept={"keep": KEPT})
    assert row(frontier.areas(suite.results()), method="worse")["area"].value == 0.0


def test_without_a_gap_there_is_no_area():
    suite = Suite().anchor("base", "toy", FULL).anchor("ceiling", "toy", FULL)
    found = frontier.areas(swept(suite, "good").results())
    assert math.isnan(row(found, method="good")["area"].value)


def test_areas_count_only_the_rates_that_every_method_finished():
    """A rate more can only add: here it would add the corner at (1, all kept)."""
    suite = anchored()
    swept(suite, "good")
    swept(suite, "good", rate=1e-2, dev=(FULL, FULL))
    swept(suite, "fine")
    found = frontier.areas(suite.results()).set_index("method")
    assert found.loc["good", "rates"] == (1e-3,)
    assert found.loc["good", "area"].value == found.loc["fine", "area"].value
    swept(suite, "fine", rate=1e-2)
    found = frontier.areas(suite.results()).set_index("method")
    assert found.loc["good", "rates"] == (1e-3, 1e-2)
    assert found.loc["good", "area"].value == pytest.approx(1.0)


def test_methods_without_a_rate_in_common_have_no_area():
    suite = swept(swept(anchored(), "good"), "fine", rate=1e-2)
    found = frontier.areas(suite.results())
    assert found["rates"].tolist() == [(), ()]
    assert all(math.isnan(area.value) for area in found["area"])


def test_a_difference_is_of_two_areas():
    suite = swept(swept(anchored(), "good"), "poor", dev=(BASE, HALF))
    found = row(frontier.area_differences(suite.results()), method="good", other="poor")
    assert found["difference"].value == pytest.approx(5 / 6 - 1 / 2 * 2 / 3)


def test_two_alike_methods_have_a_difference_without_an_interval_of_width_zero():
    suite = swept(swept(anchored(), "good"), "same")
    found = row(frontier.area_differences(suite.results()), method="good")
    assert found["difference"].value == 0.0 and math.isnan(found["difference"].low)


def test_one_item_has_an_area_and_no_interval():
    one = Suite().anchor("base", "toy", [0.0]).anchor("ceiling", "toy", [1.0])
    one.cell("good", test=[1.0], dev={0: [0.0], 10: [1.0]}, along={"keep": {0: [1.0], 10: [1.0]}})
    found = row(frontier.areas(one.results()), method="good")["area"]
    assert (found.value, found.n) == (1.0, 1) and math.isnan(found.low)


def test_two_methods_that_differ_nowhere_differ_by_nothing_in_every_resample():
    """Their sums run over other rows of one matrix, so the last digits need not agree."""
    draw = np.random.default_rng(7)
    fronts = simulated([CROWDED], draw)
    twice = Fronts(
        methods=("a", "b"),
        owner=np.repeat([0, 1], 12),
        gained=np.concatenate([fronts.gained, fronts.gained[::-1]]),
        kept=np.concatenate([fronts.kept, fronts.kept[::-1]]),
        before=fronts.before,
        gap=fronts.gap,
    )
    _, (difference,) = twice.measured()
    assert difference.interval.value == 0.0 and math.isnan(difference.interval.low)


def test_without_retention_along_the_way_there_is_no_frontier():
    suite = anchored().cell("good", dev={0: BASE, 10: FULL}, test=FULL, kept={"keep": LESS})
    results = suite.results()
    assert frontier.points(results).empty and frontier.areas(results).empty
    assert "area" in frontier.areas(results) and "pareto" in frontier.points(results)


def test_an_empty_suite_has_empty_frames():
    results = Suite().results()
    assert frontier.points(results).empty and frontier.area_differences(results).empty


def test_the_union_is_what_counting_cells_of_a_grid_gives():
    draw = np.random.default_rng(0)
    x, y = draw.uniform(-0.2, 1, (7, 5)), draw.uniform(-0.2, 1, (7, 5))
    centres = (np.arange(500) + 0.5) / 500
    for i in range(5):
        below = (centres[:, None, None] < x[:, i]) & (centres[None, :, None] < y[:, i])
        assert union(x, y)[i] == pytest.approx(below.any(axis=2).mean(), abs=0.01)


def test_a_dominated_point_adds_nothing_and_any_other_adds():
    x, y = np.array([0.4, 0.8]), np.array([0.9, 0.5])
    area = union(x, y)
    assert area == pytest.approx(0.4 * 0.9 + 0.4 * 0.5)
    assert union(np.append(x, 0.3), np.append(y, 0.8)) == pytest.approx(area)
    assert union(np.append(x, 0.6), np.append(y, 0.8)) == pytest.approx(area + 0.2 * 0.3)


# --- simulations ----------------------------------------------------------------------------------

DEV, KEEP, TEST = 60, 70, 80
BEFORE, PLAIN, TOLD = 0.9, 0.1, 0.9
CLEAR = (np.array([0.3, 0.9]), np.array([0.9, 0.6]))  # two points far from each other
CROWDED = (np.full(12, 0.6), np.full(12, 0.8))  # twelve that are truly alike


def alike(p, n, draw):
    """(points, n) outcomes with these rates; seven in ten follow the item's own difficulty."""
    follows = draw.random((len(p), n)) < 0.7
    u = np.where(follows, draw.random(n), draw.random((len(p), n)))
    return (u < np.asarray(p)[:, None]).astype(float)


def simulated(fronts, draw):
    """The fronts of methods whose points have these true rates on dev and on retention."""
    x = np.concatenate([f[0] for f in fronts])
    y = np.concatenate([f[1] for f in fronts])
    dev, keep = alike([*x, PLAIN], DEV, draw), alike([*y, BEFORE], KEEP, draw)
    test = alike([TOLD, PLAIN], TEST, draw)
    return Fronts(
        methods=tuple("abc"[: len(fronts)]),
        owner=np.repeat(np.arange(len(fronts)), [len(f[0]) for f in fronts]),
        gained=dev[:-1] - dev[-1],
        kept=keep[:-1] - keep[-1],
        before=keep[-1],
        gap=test[0] - test[1],
    )


def truth(front):
    return float(union(front[0] - PLAIN, front[1])) / (TOLD - PLAIN) / BEFORE


def test_the_interval_is_what_a_loop_over_resamples_gives():
    """Against the definition: draw the three sets of items apart, and redo everything."""
    fronts = simulated([CLEAR, CROWDED], np.random.default_rng(1))
    areas, (difference,) = fronts.measured()
    draw, found = np.random.default_rng(2), []
    for _ in range(2000):
        d, k, t = (draw.integers(0, n, n) for n in (DEV, KEEP, TEST))
        x = fronts.gained[:, d].mean(axis=1)
        y = (fronts.kept[:, k] + fronts.before[k]).mean(axis=1)
        whole = fronts.gap[t].mean() * fronts.before[k].mean()
        found.append(
            [float(union(x[fronts.owner == i], y[fronts.owner == i])) / whole for i in (0, 1)]
        )
    found = np.array(found)
    for area, drawn in zip(
        [*areas, difference], [*found.T, found[:, 0] - found[:, 1]], strict=True
    ):
        low, high = np.quantile(drawn, [0.025, 0.975])
        width = high - low
        assert area.interval.low == pytest.approx(low, abs=0.08 * width)
        assert area.interval.high == pytest.approx(high, abs=0.08 * width)
        assert area.bias == pytest.approx(drawn.mean() - area.interval.value, abs=0.05 * width)


def test_the_intervals_of_area_and_difference_cover_as_often_as_they_say():
    """Two equal methods, 400 experiments; binomial noise of the coverage is 1.1 points.

    One point of the front stands clear of the other, so no luck decides which of them counts.
    """
    draw, areas, differences = np.random.default_rng(3), 0, 0
    for _ in range(400):
        (area, _), (difference,) = simulated([CLEAR, CLEAR], draw).measured()
        areas += area.interval.low <= truth(CLEAR) <= area.interval.high
        differences += difference.interval.low <= 0 <= difference.interval.high
    assert 0.93 * 400 <= areas <= 0.97 * 400
    assert 0.93 * 400 <= differences <= 0.97 * 400


def test_many_points_that_are_alike_flatter_the_area_and_the_bias_says_so():
    """The best of twelve is taken: the area is too large, by more than the bootstrap estimates."""
    draw, off, bias, covered = np.random.default_rng(5), [], [], 0
    for _ in range(100):
        (found,), _ = simulated([CROWDED], draw).measured()
        off.append(found.interval.value - truth(CROWDED))
        bias.append(found.bias)
        covered += found.interval.low <= truth(CROWDED) <= found.interval.high
    assert 0.05 < np.mean(off) < 0.15
    assert 0.3 * np.mean(off) < np.mean(bias) < np.mean(off)
    assert covered < 60  # and so the docstring warns


def test_equal_fronts_cancel_that_bias_however_crowded():
    draw, hits, off = np.random.default_rng(6), 0, []
    for _ in range(200):
        _, (found,) = simulated([CROWDED, CROWDED], draw).measured()
        hits += found.interval.low <= 0 <= found.interval.high
        off.append(found.interval.value)
    assert hits >= 0.93 * 200
    assert abs(np.mean(off)) < 0.01
