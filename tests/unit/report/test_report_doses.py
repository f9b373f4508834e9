"""Dose and response by hand: what is added up, who is paired with whom, and what is said of it."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from report_comparison import NAMES, TASK, assert_no_word_is_cut_off, comparison, interval
from report_frames import Suite, describe
from scipy import stats

from opcd_bench.errors import StoreError
from opcd_bench.report.analysis import doses
from opcd_bench.report.figures import catalogue, style
from opcd_bench.report.figures import doses as figure
from opcd_bench.report.page.page_context import PageContext
from opcd_bench.report.page.sections import sections
from opcd_bench.report.tables import doses as tables

FULL = describe(support="full", outside="none")
STOPPED = describe(gradient="stop_gradient")
COUNT = 40


def scores(right, shift=0):
    return np.roll(np.arange(COUNT) < right, shift).astype(float)


def logged(*ratios, signal=2.0, skipped=()):
    steps = range(1, len(ratios) + 1)
    return {
        "leak": [signal * ratio for ratio in ratios],
        "signal": [signal] * len(ratios),
        "skipped": [step in skipped for step in steps],
    }


def full(suite, right=36, seed=0, **more):
    train = {"leak": [0.0], "signal": [None], "skipped": [False]}
    return suite.cell("opcd_full", test=scores(right), seed=seed, description=FULL,
                      **{**train, **more})  # fmt: skip


def small():
    """Two methods that take the gradient, one that is spared it, two seeds; opcd_full beside."""
    suite = Suite()
    for seed in (0, 1):
        full(suite, seed=seed)
        suite.cell("low", seed=seed, test=scores(32), **logged(0.1, 0.2 + 0.2 * seed))
        suite.cell("high", seed=seed, test=scores(20), **logged(1.0, 3.0))
        suite.cell("stopped", seed=seed, test=scores(35), description=STOPPED, **logged(2.0, 3.0))
    return suite


def of(frame, method, seed=None):
    mine = frame[frame["method"] == method]
    mine = mine[mine["seed"].isna()] if seed is None else mine[mine["seed"] == seed]
    (row,) = mine.itertuples()
    return row


def test_a_dose_is_the_sum_of_the_steps_ratios_and_damage_what_is_lost_against_the_full_kl():
    found = doses.doses(small().results())
    assert list(found.columns) == doses.DOSES
    assert list(found["method"]) == ["high"] * 3 + ["low"] * 3 + ["stopped"] * 3
    one, both = of(found, "low", seed=1), of(found, "low")
    assert (one.dose, both.dose) == (pytest.approx(0.5), pytest.approx(0.4))
    assert one.damage.value == both.damage.value == pytest.approx(4 / COUNT)
    assert (one.seeds, both.seeds, both.step) == ((1,), (0, 1), 10)
    assert both.damage.low < both.damage.value < both.damage.high and both.damage.n == COUNT


def test_a_loss_whose_gradient_has_no_such_part_is_spared_the_dose():
    found = of(doses.doses(small().results()), "stopped")
    assert (found.takes, found.dose, found.spared) == (False, 0.0, pytest.approx(5.0))
    assert found.damage.value == pytest.approx(1 / COUNT)


@pytest.mark.parametrize(
    ("gradient", "outside", "taken"),
    [("through", "drop", True), ("through", "leak", True), ("stop_gradient_weight", "drop", True),
     ("stop_gradient", "drop", False), ("through", "generalised", False),
     ("through", "renormalise", False), ("through", "tail", False),
     ("stop_gradient", "sampled", False)],
)  # fmt: skip
def test_which_losses_take_the_gradient_of_the_mass(gradient, outside, taken):
    assert doses.takes({"gradient": gradient, "outside": outside}) is taken


def test_steps_that_moved_no_weight_or_came_after_the_measured_one_add_nothing():
    suite = full(Suite(), chosen=2)
    suite.cell("some", test=scores(3), chosen=2, **logged(1.0, 5.0, 7.0, skipped={2}))
    suite.cell("more", test=scores(3), chosen=2, **logged(1.0, 5.0, 7.0))
    found = doses.doses(suite.results())
    assert (of(found, "some").dose, of(found, "more").dose) == (1.0, 6.0)


def test_runs_without_a_partner_of_their_seed_and_step_are_left_out():
    suite = small()
    suite.cell("low", seed=2, test=scores(0), **logged(9.0))  # no opcd_full of this seed
    full(suite, seed=3, chosen=20)
    suite.cell("high", seed=3, test=scores(0), **logged(9.0))  # measured at another step
    suite.cell("low", rate=1e-2, test=scores(0), **logged(9.0))  # no opcd_full at this rate
    found = doses.doses(suite.results())
    assert set(found["learning_rate"]) == {1e-3}
    assert of(found, "low").seeds == of(found, "high").seeds == (0, 1)


@pytest.mark.parametrize("signal", [[None, 1.0], [0.0, 1.0]])
def test_a_run_with_a_step_whose_signal_is_not_known_is_left_out(signal):
    suite = small()
    suite.cell("odd", test=scores(1), leak=[0.5, 0.5], signal=signal, skipped=[False, False])
    assert "odd" not in set(doses.doses(suite.results())["method"])


def test_methods_that_differ_in_more_than_their_loss_are_left_out():
    suite = small()
    suite.cell("told", test=scores(1), description=describe("teacher"), **logged(9.0))
    suite.cell("forward", test=scores(1), description=describe(direction="forward_kl"),
               **logged(9.0))  # fmt: skip
    suite.cell("rewarded", test=scores(1), **logged(9.0),
               description={**describe(), "loss": {"id": "grpo", "rewarded": True}})  # fmt: skip
    found = doses.doses(suite.results())
    assert set(found["method"]) == {"high", "low", "stopped"}


def test_nothing_is_told_without_the_full_kl_the_log_or_two_methods_with_a_dose():
    without = Suite().cell("low", test=scores(3), **logged(1.0))
    without.cell("high", test=scores(3), **logged(2.0))
    one = full(Suite()).cell("low", test=scores(3), **logged(1.0))
    one.cell("stopped", test=scores(3), description=STOPPED, **logged(2.0))
    old = full(Suite(), signal=[], leak=[], skipped=[])
    for name in ("low", "high"):
        old.cell(name, test=scores(3), leak=[0.1], skipped=[False])
    for suite in (without, one, old, Suite()):
        results = suite.results()
        found = doses.doses(results)
        assert found.empty and list(found.columns) == doses.DOSES
        assert doses.response(results, found).empty
        assert tables.files(found, doses.response(results, found)) == {}


def test_what_cannot_be_compared_is_refused():
    suite = small().cell("other", test=scores(3), protocol="q", dev={10: [1.0]}, **logged(1.0))
    with pytest.raises(StoreError):
        doses.doses(suite.results())


def many(rights, ratios):
    suite = full(Suite())
    for at, (right, ratio) in enumerate(zip(rights, ratios, strict=True)):
        suite.cell(f"m{at}", test=scores(right, shift=at), **logged(ratio))
    return suite.results()


@pytest.mark.parametrize(
    ("rights", "ratios"),
    [
        ([30, 25, 10, 28, 20], [0.1, 2.0, 9.0, 0.5, 3.0]),
        ([30, 25, 25, 9, 12], [3.0, 0.1, 0.1, 7.0, 8.0]),
    ],
)
def test_the_correlation_is_spearmans_of_dose_and_damage_over_the_methods(rights, ratios):
    results = many(rights, ratios)
    (found,) = doses.response(results, doses.doses(results)).itertuples()
    damages = [36 - right for right in rights]
    wanted = stats.spearmanr(ratios, damages).statistic
    assert found.correlation.value == pytest.approx(wanted)
    assert found.correlation.low <= wanted <= found.correlation.high
    assert (found.methods, found.seeds, found.correlation.n) == (len(rights), (0,), COUNT)
    others = [stats.spearmanr(ratios, one).statistic for one in itertools.permutations(damages)]
    beyond = [sum(sign * one >= sign * wanted - 1e-9 for one in others) for sign in (1, -1)]
    assert found.p == pytest.approx(min(1.0, 2 * min(beyond) / len(others)))


def test_the_conclusion_says_whether_damage_goes_with_the_dose():
    rising = many([35, 30, 18, 3, 1], [0.1, 1.0, 5.0, 20.0, 30.0])
    frame = doses.doses(rising)
    (said,) = tables.conclusions(frame, doses.response(rising, frame))
    assert said.startswith("Damage rises with the dose: rank correlation +1.00")
    assert "over the 5 methods that leak (p 0.017 by permuting them), [" in said
    falling = many([1, 9, 18, 27, 36], [0.1, 1.0, 5.0, 20.0, 30.0])
    frame = doses.doses(falling)
    (said,) = tables.conclusions(frame, doses.response(falling, frame))
    assert said.startswith("Damage falls as the dose rises: rank correlation -1.00")
    unsure = many([35, 30, 18, 3], [0.1, 1.0, 5.0, 20.0])  # four: p is 2 / 4! at best
    frame = doses.doses(unsure)
    (said,) = tables.conclusions(frame, doses.response(unsure, frame))
    assert said == (
        "No rank correlation of dose and damage over the 4 methods that leak, too few (at least 5 "
        "can show any)."
    )


def test_ranks_that_no_resample_changes_have_no_interval():
    """Three damages are alike for ever: the examples say nothing of the methods."""
    results = many([40, 40, 40, 5, 0], [0.1, 1.0, 5.0, 20.0, 30.0])
    frame = doses.doses(results)
    response = doses.response(results, frame)
    (found,) = response.itertuples()
    assert np.isnan(found.correlation.low) and found.correlation.value > 0.8
    (said,) = tables.conclusions(frame, response)
    assert said.startswith("Damage ") and said.endswith(" by permuting them).")


def test_what_differs_by_rounding_alone_shares_a_rank():
    assert list(doses._ranks([0.1 + 0.2, 0.3, 0.7])) == [-0.5, -0.5, 1.0]


def test_methods_that_are_all_alike_have_no_rank_correlation():
    results = many([30] * 5, [0.1, 2.0, 9.0, 11.0, 12.0])
    frame = doses.doses(results)
    response = doses.response(results, frame)
    assert np.isnan(response["p"]).all()
    (said,) = tables.conclusions(frame, response)
    assert said.endswith("over the 5 methods that leak, which are all alike in one of the two.")


def test_two_methods_have_no_rank_correlation_and_who_is_spared_is_told_beside():
    results = small().results()
    frame = doses.doses(results)
    (said,) = tables.conclusions(frame, doses.response(results, frame))
    nothing = "No rank correlation of dose and damage over the 2 methods that leak, too few "
    assert said.startswith(nothing)
    assert "stopped, whose loss is spared the leak, has a damage of 2.5 [" in said


def test_several_tasks_are_told_apart_and_the_table_has_a_line_a_method():
    results = small().results()
    frame = doses.doses(results)
    again = doses.response(results, frame)
    two = again.assign(task="other")
    both = frame.assign(task="other")
    said = tables.conclusions(pd.concat([both, frame]), pd.concat([two, again]))
    assert [line.partition(":")[0] for line in said] == ["other", "toy"]
    (section,) = tables.by_task(frame)["toy"]
    lines = section.groups[0].rows
    assert [line[:5] for line in lines] == [
        ("high", "2", "10", "4", ""), ("low", "2", "10", "0.4", ""),
        ("stopped", "2", "10", "", "5"),
    ]  # fmt: skip
    text = tables.files(frame, again)["doses.md"]
    assert text.index("No rank correlation") < text.index("| high |")


def frame_of(doses_of, rates=(1e-3,)):
    """`doses` by hand: method -> (takes, dose or what it was spared), of two seeds."""
    return pd.DataFrame(
        [
            {"task": TASK, "learning_rate": rate, "method": name, "seed": seed, "seeds": (0, 1),
             "step": 10, "takes": takes, "dose": dose * takes, "spared": dose * (not takes),
             "damage": interval(0.1 + 0.05 * at + 0.01 * (seed or 0))}
            for rate in rates
            for at, (name, (takes, dose)) in enumerate(doses_of.items())
            for seed in (None, 0, 1)
        ],
        columns=doses.DOSES,
    ).astype({"seed": object})  # fmt: skip


THREE = {"high": (True, 20.0), "low": (True, 0.02), "stopped": (False, 15.0)}
MANY = {f"method_with_a_long_name_{at:02d}": (at % 2 == 0, 0.1 * 2**at) for at in range(12)}


def test_the_figure_draws_who_is_spared_hollow_at_the_dose_that_it_was_spared():
    marks, flat = style.palette(THREE), figure.data(frame_of(THREE), TASK)
    (panel,) = figure._draw(flat, marks, narrow=False).axes
    large = {line.get_color(): line for line in panel.lines if line.get_markersize() == 6.5}
    found = {name: large[marks[name].colour] for name in THREE}
    assert [float(found[name].get_xdata()[0]) for name in THREE] == [20.0, 0.02, 15.0]
    inside = [found[name].get_markerfacecolor() for name in THREE]
    assert inside == [marks["high"].colour, marks["low"].colour, "none"]
    assert panel.get_xscale() == "log"
    alike = {name: (takes, 1.0) for name, (takes, _) in THREE.items()}
    (panel,) = figure._draw(figure.data(frame_of(alike), TASK), marks, narrow=False).axes
    assert panel.get_xscale() == "linear"


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("rates", [(1e-3,), (1e-3, 3e-3)], ids=["one", "two"])
@pytest.mark.parametrize("made", [THREE, MANY, {**MANY, "none": (True, 0.0)}])
def test_no_word_of_the_figure_is_cut_off(made, rates, narrow, monkeypatch):
    with style.style():
        flat = figure.data(frame_of(made, rates), TASK)
        drawing = figure._draw(flat, style.palette(made), narrow=narrow)
        assert_no_word_is_cut_off(drawing, monkeypatch)


def test_figure_and_section_stand_only_where_there_are_doses():
    frame = frame_of(THREE)
    response = pd.DataFrame(
        [{"task": TASK, "learning_rate": 1e-3, "methods": 2, "seeds": (0, 1),
          "correlation": interval(float("nan")), "p": float("nan")}],
        columns=doses.RESPONSE,
    )  # fmt: skip
    told = replace(comparison(), doses=frame, dose_response=response)
    marks = style.palette([*NAMES, *THREE])
    (drawn,) = [
        one for one in catalogue.draw(told, marks, [TASK], {TASK: 0.5}) if one.kind == "doses"
    ]
    assert drawn.name == f"doses-{TASK}" and list(drawn.data.columns) == figure.DATA
    assert "high: dose 20, damage +10.0 points." in drawn.alt
    assert "stopped: spared 15, damage +20.0 points." in drawn.alt
    assert drawn.caption.endswith(" 2 seeds.") and "(over seeds and " in drawn.caption
    assert not any(
        one.kind == "doses" for one in catalogue.draw(comparison(), marks, [TASK], {TASK: 0.5})
    )
    nothing = pd.DataFrame(columns=["task"])
    page = PageContext(
        name="s", summary="", command="", marks=marks, tasks=[TASK], comparison=told,
        drawn=[drawn], cells=nothing, protocols=nothing, missing=nothing,
        several=nothing, break_even=nothing,
    )  # fmt: skip
    (section,) = [one for one in sections(page) if one.id == "doses"]
    assert section.intro == tables.conclusions(frame, response)
    assert section.blocks[0].figures[0].name == drawn.name
    assert "stopped" in section.blocks[1].html and section.blocks[1].fold
    without = replace(page, comparison=comparison(), drawn=[])
    assert "doses" not in [one.id for one in sections(without)]
