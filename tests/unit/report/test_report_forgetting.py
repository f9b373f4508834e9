"""The forgetting plot's points, one a method and one a seed, and retention step by step."""

import math

import pytest
from report_frames import Suite

from opcd_bench.report.analysis import forgetting

BASE = [0.0, 0.0, 0.0, 1.0]
TOLD = [1.0, 1.0, 0.0, 1.0]
ONE_MORE = [1.0, 0.0, 0.0, 1.0]
KEPT = [1.0, 1.0, 1.0, 0.0]
LESS = [1.0, 0.0, 1.0, 0.0]


def anchored(times=1):
    return (
        Suite()
        .anchor("base", "toy", BASE * times)
        .anchor("ceiling", "toy", TOLD * times)
        .anchor("base", "keep", KEPT)
    )


def points(suite):
    return forgetting.points(suite.results())


def test_a_point_is_what_was_gained_on_test_and_what_was_lost():
    found = points(anchored().cell("good", test=ONE_MORE, kept={"keep": LESS}))
    solid = found.iloc[0]
    assert (solid["measured"], solid["method"], solid["seed"]) == ("keep", "good", None)
    assert solid["gain"].value == 0.25
    assert math.isnan(solid["gap_closed"].value)  # of four examples no gap is shown
    assert solid["change"].value == -0.25
    assert solid["change"].n == 4
    of_many, *_ = points(anchored(8).cell("good", test=ONE_MORE * 8, kept={"keep": LESS}))[
        "gap_closed"
    ]
    assert of_many.value == pytest.approx(0.5)


def test_one_row_a_method_and_one_a_seed():
    suite = anchored()
    suite.cell("good", seed=0, test=ONE_MORE, kept={"keep": LESS})
    suite.cell("good", seed=1, test=TOLD, kept={"keep": KEPT})
    found = points(suite)
    assert found["seed"].tolist() == [None, 0, 1]
    assert [gain.value for gain in found["gain"]] == [0.375, 0.25, 0.5]
    assert [change.value for change in found["change"]] == [-0.125, -0.25, 0.0]


def test_only_the_headline_rate_has_points():
    suite = anchored()
    for seed in (0, 1):
        suite.cell("good", seed=seed, test=ONE_MORE, kept={"keep": LESS})
    suite.cell("good", rate=1e-2, test=TOLD, kept={"keep": KEPT})
    assert set(points(suite)["learning_rate"]) == {1e-3}


def test_every_retention_task_is_a_panel_of_its_own():
    suite = anchored().anchor("base", "other", KEPT)
    found = points(suite.cell("good", test=TOLD, kept={"keep": LESS, "other": KEPT}))
    solid = found[[seed is None for seed in found["seed"]]].set_index("measured")
    assert solid.loc["keep", "change"].value == -0.25
    assert solid.loc["other", "change"].value == 0.0


def test_the_front_is_of_methods_and_a_single_seed_is_never_on_it():
    suite = anchored()
    suite.cell("good", test=TOLD, kept={"keep": KEPT})
    suite.cell("poor", test=ONE_MORE, kept={"keep": LESS})
    found = points(suite)
    assert [(p.method, p.seed) for p in found[found["pareto"]].itertuples()] == [("good", None)]


def test_the_base_dominates_a_method_that_only_forgets():
    found = points(anchored().cell("harm", test=BASE, kept={"keep": LESS}))
    assert not found["pareto"].any()


def test_the_front_by_hand():
    """(1, -1) and (2, -2) trade; (1, -2) is below both; a tie leaves both on; NaN is off."""
    gain = [1.0, 2.0, 1.0, 2.0, math.nan, -1.0]
    kept = [-1.0, -2.0, -2.0, -2.0, 0.0, 0.0]
    assert forgetting.on_front(gain, kept) == [True, True, False, True, False, False]
    assert forgetting.on_front([], []) == []


def test_an_unscored_reply_is_no_forgetting():
    found = points(anchored().cell("good", test=TOLD, kept={"keep": [math.nan, 1.0, 1.0, 0.0]}))
    change = found.iloc[0]["change"]
    assert (change.value, change.n) == (0.0, 3)


def test_retention_is_followed_step_by_step_for_each_seed():
    along = {"keep": {0: KEPT, 10: LESS, 20: [0.0, 0.0, 1.0, 0.0]}}
    suite = anchored()
    for seed in (0, 1):
        suite.cell("good", seed=seed, test=TOLD, kept={"keep": LESS}, along=along)
    suite.cell("good", rate=1e-2, test=TOLD, kept={"keep": LESS}, along=along)
    found = forgetting.by_step(suite.results())
    assert found["seed"].tolist() == [0, 0, 0, 1, 1, 1]
    assert found["step"].tolist() == [0, 10, 20] * 2
    assert found["value"].tolist() == [0.75, 0.5, 0.25] * 2
    assert found["change"].tolist() == [0.0, -0.25, -0.5] * 2
    assert set(found["learning_rate"]) == {1e-3}


def test_a_change_is_over_the_items_that_both_steps_scored():
    along = {"keep": {0: KEPT, 10: [math.nan, 0.0, 1.0, 0.0]}}
    suite = anchored().cell("good", test=TOLD, kept={"keep": LESS}, along=along)
    late = forgetting.by_step(suite.results()).iloc[1]
    assert late["value"] == pytest.approx(1 / 3)
    assert late["change"] == pytest.approx(-1 / 3)


def test_a_run_that_is_not_finished_has_no_steps_here():
    along = {"keep": {0: KEPT, 10: LESS}}
    suite = anchored().cell("good", test=TOLD, kept={"keep": LESS}, along=along)
    suite.cell("good", seed=1, along=along, state="not finished")
    assert set(forgetting.by_step(suite.results())["seed"]) == {0}


def test_nothing_run_gives_empty_frames_with_their_columns():
    results = Suite().results()
    assert forgetting.points(results).empty and "pareto" in forgetting.points(results)
    assert forgetting.by_step(results).empty and "change" in forgetting.by_step(results)
