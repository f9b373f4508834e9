"""Effects of writer, direction, support and gradient, from methods that hold the corners."""

import math

import numpy as np
import pandas as pd
import pytest
from report_frames import Suite, describe

from opcd_bench.report.analysis import factorial
from opcd_bench.report.figures import style, words
from opcd_bench.runner import registry

CORNERS = {
    "on_reverse": ("student", "reverse_kl"),
    "on_forward": ("student", "forward_kl"),
    "off_reverse": ("teacher", "reverse_kl"),
    "off_forward": ("teacher", "forward_kl"),
}


def square(scores, suite=None, **kept):
    """The four corners, with these test scores."""
    suite = suite or Suite()
    for name, test in scores.items():
        suite.cell(name, test=test, description=describe(*CORNERS[name]), **kept)
    return suite


def effects(suite):
    return factorial.effects(suite.results()).set_index(["measured", "factor"])


def shares(accuracy, n=10):
    """Scores of n items with this accuracy."""
    return [1.0] * round(accuracy * n) + [0.0] * (n - round(accuracy * n))


SCORES = {
    "on_reverse": shares(0.9),
    "on_forward": shares(0.6),
    "off_reverse": shares(0.4),
    "off_forward": shares(0.3),
}


def test_main_effects_are_means_of_simple_ones_and_the_interaction_their_difference():
    found = effects(square(SCORES))
    assert found.loc[("test", "writer"), "effect"].value == pytest.approx(0.4)  # (.5 + .3) / 2
    assert found.loc[("test", "direction"), "effect"].value == pytest.approx(0.2)  # (.3 + .1) / 2
    assert found.loc[("test", "writer x direction"), "effect"].value == pytest.approx(
        0.2
    )  # .5 - .3


def test_an_effect_says_what_is_subtracted_and_which_methods_stand_behind_it():
    found = effects(square(SCORES))
    assert found.loc[("test", "writer"), "levels"] == "student - teacher"
    assert found.loc[("test", "direction"), "levels"] == "reverse_kl - forward_kl"
    both = "(student - teacher) under reverse_kl - (student - teacher) under forward_kl"
    assert found.loc[("test", "writer x direction"), "levels"] == both
    assert set(found.loc[("test", "writer"), "methods"]) == set(CORNERS)


def test_the_owner_of_the_support_changes_with_the_direction_and_the_note_says_so():
    found = effects(square(SCORES))
    assert (
        "owner of the support changes with the direction" in found.loc[("test", "writer"), "note"]
    )


def test_a_missing_corner_leaves_plain_differences_only():
    three = {name: scores for name, scores in SCORES.items() if name != "off_forward"}
    found = effects(square(three))
    assert sorted(found.index) == [("test", "direction"), ("test", "writer")]
    assert found.loc[("test", "writer"), "methods"] == ("on_reverse", "off_reverse")
    assert found.loc[("test", "writer"), "effect"].value == pytest.approx(0.5)
    assert found.loc[("test", "direction"), "methods"] == ("on_reverse", "on_forward")


def test_a_corner_that_differs_in_something_else_is_no_corner():
    """Another k: what is left of the square are the two pairs that are still alike."""
    suite = square({name: s for name, s in SCORES.items() if name != "off_forward"})
    other = describe("teacher", "forward_kl", k=8)
    suite.cell("off_forward", test=SCORES["off_forward"], description=other)
    assert "writer x direction" not in effects(suite).index.get_level_values("factor")


def test_a_factor_that_two_methods_alone_differ_in_is_their_difference():
    suite = square(SCORES)
    stopped = describe("student", "reverse_kl", gradient="stop_gradient")
    suite.cell("stopped", test=shares(0.8), description=stopped)
    found = effects(suite)
    gradient = found.loc[("test", "gradient")]
    assert gradient["levels"] == "stop_gradient - through"
    assert gradient["methods"] == ("stopped", "on_reverse")
    assert gradient["effect"].value == pytest.approx(-0.1)
    assert found.loc[("test", "writer"), "effect"].value == pytest.approx(0.4)  # as without it


def test_retention_has_effects_of_its_own():
    suite = Suite()
    for name, after in zip(CORNERS, (0.2, 0.4, 0.8, 0.8), strict=True):
        suite.cell(
            name,
            test=SCORES[name],
            kept={"keep": shares(after)},
            description=describe(*CORNERS[name]),
        )
    found = effects(suite)
    assert found.loc[("keep", "writer"), "effect"].value == pytest.approx(-0.5)
    assert found.loc[("test", "writer"), "effect"].value == pytest.approx(0.4)


def test_corners_are_compared_over_the_seeds_that_all_have():
    suite = square(SCORES)
    suite.cell("on_reverse", seed=1, test=shares(0.0), description=describe("student"))
    found = effects(suite).loc[("test", "writer")]
    assert found["seeds"] == (0,)
    assert found["effect"].value == pytest.approx(0.4)


def test_corners_at_rates_of_their_own_are_named():
    suite = square({name: s for name, s in SCORES.items() if name != "on_reverse"})
    suite.cell("on_reverse", 1e-2, test=SCORES["on_reverse"], description=describe("student"))
    found = effects(suite)
    said = words.effect_notes(found, style.palette(sorted(SCORES)))
    assert "on_reverse 0.01" in said and "on_forward 0.001" in said
    assert said.count("learning rates of their own") == 1
    alike = effects(square(SCORES))
    assert "0.001" not in words.effect_notes(alike, style.palette(sorted(SCORES)))


def test_the_notes_of_effects_have_methods_under_their_names_for_readers():
    rows = {"methods": [("opcd", "forward_kl")], "learning_rates": [(1e-3, 3e-3)], "note": [""]}
    said = words.effect_notes(pd.DataFrame(rows), style.palette(["forward_kl", "opcd"]))
    assert said == (
        "Note: methods stand at learning rates of their own: Forward KL 0.003, OPCD 0.001."
    )


def test_the_interval_of_an_interaction_covers_it():
    """400 experiments of 60 items, a task each; binomial noise of the coverage is 1.1 points."""
    rates = dict(zip(CORNERS, (0.8, 0.6, 0.5, 0.5), strict=True))  # interaction .2 - 0
    draw, suite = np.random.default_rng(0), Suite()
    for number in range(400):
        suite.task = f"toy{number:03d}"
        hard = draw.random(60)
        for name, rate in rates.items():
            own = np.where(draw.random(60) < 0.5, hard, draw.random(60))
            suite.cell(name, test=own < rate, description=describe(*CORNERS[name]))
    found = factorial.effects(suite.results())
    crossed = found.loc[found["factor"] == "writer x direction", "effect"]
    hits = [effect.low <= 0.2 <= effect.high for effect in crossed]
    assert len(hits) == 400
    assert 0.93 <= np.mean(hits) <= 0.97


def test_the_methods_of_the_package_hold_the_squares_that_they_are_meant_to():
    suite = Suite()
    for name, method in registry.methods().items():
        suite.cell(name, test=shares(0.5), description=dict(method.describe()))
    found = factorial.effects(suite.results())
    crossed = found[found["factor"] == "writer x direction"]
    corners = {"opcd", "forward_kl", "forward_kl_on_policy", "reverse_kl_off_policy"}
    assert [set(methods) for methods in crossed["methods"]] == [corners]
    alone = {(row.factor, row.methods) for row in found.itertuples() if len(row.methods) == 2}
    assert ("gradient", ("opcd_stop_gradient", "opcd")) in alone
    assert ("support", ("opcd_full", "opcd")) in alone
    assert ("direction", ("opcd_full", "jsd")) in alone
    taught = found[found["factor"] == "teacher weights x reads"]
    square = {"opcd", "control_null", "opcd_larger", "opcd_larger_plain"}
    assert [set(methods) for methods in taught["methods"]] == [square]
    assert ("rows", ("opcd", "control_shuffled")) in alone
    assert not any({"control_null", "control_shuffled"} == set(pair) for _, pair in alone)


def test_a_contributed_loss_is_a_direction_of_its_own():
    own = {**describe(), "loss": {"callable": "mine.loss", "source_hash": "0123456789"}}
    assert factorial.coordinates(own)["direction"] == "mine.loss 0123456789"
    suite = Suite().cell("mine", test=shares(0.5), description=own)
    assert effects(suite.cell("on_reverse", test=shares(0.9), description=describe())).empty


def test_nothing_run_has_no_effect():
    found = factorial.effects(Suite().results())
    assert found.empty and list(found) == factorial.EFFECTS
    lone = factorial.effects(Suite().cell("good", test=[1.0], description=describe()).results())
    assert lone.empty


def test_alike_corners_have_no_interval_of_width_zero():
    found = effects(square(dict.fromkeys(CORNERS, shares(0.5)))).loc[("test", "writer"), "effect"]
    assert found.value == 0.0 and math.isnan(found.low)


def test_supports_of_two_sizes_are_two_levels_whoever_owns_them():
    levels = {
        (support, k): factorial.coordinates(
            {**describe(), "loss": {**describe()["loss"], "support": support, "k": k}}
        )["support"]
        for support in ("student_top_k", "union", "teacher_top_k_and_sampled")
        for k in (4, 16)
    }
    assert len(set(levels.values())) == 6
    assert levels["union", 4].startswith("union of top-4")


def test_rewards_stages_and_what_is_read_are_levels_of_their_own():
    from opcd_bench.distillation.losses.divergence import named
    from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
    from opcd_bench.distillation.losses.scheduled import Taid
    from opcd_bench.distillation.method import (
        STUDENT,
        TOLD_TEACHER,
        Method,
        Stage,
        Teacher,
        Writer,
    )

    def levels(loss, writer=STUDENT, **more):
        made = Method("mine", "A test's.", "a test", writer, loss, **more)
        return factorial.coordinates(made.describe())

    full = named("rkl_full")
    plain = levels(full)
    staged = levels(full, begins=Stage(0.5, TOLD_TEACHER, named("nll")))
    assert {k for k in plain if plain[k] != staged[k]} == {"rest"}
    adapted = levels(full, teacher=Teacher(weights="adapted", by="grpo"))
    assert {k for k in plain if plain[k] != adapted[k]} == {"teacher weights"}
    hinted = [
        levels(full, writer) for writer in (TOLD_TEACHER, Writer("teacher", 1.0, reads="hint"))
    ]
    assert {k for k in plain if hinted[0][k] != hinted[1][k]} == {"writer"}
    grpo, taid = levels(PolicyGradient()), levels(Taid())
    assert (
        grpo["direction"].startswith("policy_gradient ") and taid["direction"] != grpo["direction"]
    )
    assert levels(PolicyGradient(clip=0.1))["direction"] != grpo["direction"]
