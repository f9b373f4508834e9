"""Break-even: the arithmetic of training, and of the context that it saves."""

import math

import numpy as np
import pandas as pd
import pytest
from report_frames import Suite, describe

from opcd_bench.envs.task import Context, Contexts
from opcd_bench.report.analysis import break_even
from opcd_bench.report.analysis.contexts import StoredContexts, stored

N, LAYERS, WIDTH = 1_000_000, 4, 64
SHAPE = break_even.Shape(N, LAYERS, WIDTH)
TOLD = StoredContexts(Contexts((Context("The rule."),)), prompt_tokens=40.0, context_tokens=100.0)


def runs(description, trained=6000.0, scored=6000.0):
    return pd.DataFrame(
        [{"description": description, "student_tokens_trained": trained,
          "teacher_tokens_scored": scored}]
    )  # fmt: skip


def row(description, *, replies=100.0, shapes=None, scored=6000.0):
    shapes = {"student": SHAPE} if shapes is None else shapes
    found = break_even._row(TOLD, shapes, runs(description, scored=scored), replies)
    return None if found is None else dict(zip(break_even.COLUMNS[6:], found, strict=True))


def test_a_query_saves_reading_the_context_or_attending_to_it():
    found = row(describe())
    pairs = 100 * (40 + 60)  # a response has 6000 / 100 tokens
    attending = 4 * LAYERS * WIDTH
    assert found["saved beside a cache"] == attending * pairs
    assert found["saved"] == 2 * N * 100 + attending * (100**2 / 2 + pairs)


def test_training_on_policy_is_sampling_scoring_with_the_context_and_three_passes():
    found = row(describe())
    tokens = 100 * (40 + 60)
    told = 100 * found["saved"]
    assert found["training"] == pytest.approx(
        2 * N * tokens + 2 * N * tokens + told + 6 * N * tokens
    )
    assert found["queries"] == pytest.approx(found["training"] / found["saved"])
    assert found["queries beside a cache"] == pytest.approx(
        found["training"] / found["saved beside a cache"]
    )


def test_fine_tuning_on_what_the_teacher_wrote_asks_for_no_scores():
    found = row(describe("teacher"), scored=0.0)
    tokens = 100 * (40 + 60)
    assert found["training"] == pytest.approx(
        2 * N * tokens + 100 * found["saved"] + 6 * N * tokens
    )


def test_a_prefix_cache_puts_break_even_off():
    found = row(describe())
    assert found["queries beside a cache"] > 10 * found["queries"]


def test_a_larger_teacher_costs_its_own_size_and_none_is_guessed():
    larger = describe()
    larger["teacher"]["weights"] = "larger"
    shapes = {"student": SHAPE, "larger": break_even.Shape(10 * N, LAYERS, WIDTH)}
    assert row(larger) is None
    assert row(larger, shapes=shapes)["training"] > 2 * row(describe())["training"]
    assert row(larger, shapes=shapes)["saved"] == row(describe())["saved"]


@pytest.mark.parametrize(("right", "paid"), [(0.9, True), (0.0, False)])
def test_what_gains_nothing_never_pays(monkeypatch, right, paid):
    test = (np.arange(100) < 100 * right) * 1.0
    made = Suite("toy").anchor("base", "toy", np.zeros(100)).anchor("ceiling", "toy", np.ones(100))
    for seed in range(3):
        made.cell("opcd", seed=seed, test=np.roll(test, 31 * seed))
    monkeypatch.setattr(break_even.contexts, "of", lambda results: {"toy": TOLD})
    monkeypatch.setattr(break_even, "_row", lambda *given: (*map(float, range(1, 9)),))
    results = made.results()
    results.suite[break_even.SHAPES] = {"student": SHAPE.__dict__}
    (row,) = break_even.break_even(results).itertuples()
    assert (row.gain.low > 0) == paid == math.isfinite(row.queries)


def test_without_logged_responses_nothing_is_said():
    assert row(describe(), replies=math.nan) is None


def test_the_contexts_of_a_suite_are_those_that_its_runs_have():
    cells = pd.DataFrame([{"task": "toy", "settings": {"task.context_hash": "h1"}}])
    pool = [{"placement": "user", "text": "The rule."}]
    suite = {
        "contexts": {
            "toy": {"h1": {"pool": pool, "prompt_tokens": 3, "context_tokens": 4},
                    "h2": {"pool": [{"placement": "user", "text": "Another."}]}},
        }
    }  # fmt: skip
    found = stored(suite, cells)
    assert found["toy"].contexts.pool == (Context("The rule.", "user"),)
    assert (found["toy"].prompt_tokens, found["toy"].context_tokens) == (3.0, 4.0)


@pytest.mark.parametrize("suite", [{}, {"contexts": {}}, {"contexts": {"toy": {"other": {}}}}])
def test_a_suite_of_an_older_version_says_nothing(suite):
    cells = pd.DataFrame([{"task": "toy", "settings": {"task.context_hash": "h1"}}])
    assert stored(suite, cells) == {}


def test_a_pool_has_no_tokens_where_none_could_be_measured():
    cells = pd.DataFrame([{"task": "toy", "settings": {"task.context_hash": "h"}}])
    pool = [{"placement": "system", "text": text} for text in ("One.", "Two.")]
    found = stored({"contexts": {"toy": {"h": {"pool": pool}}}}, cells)
    assert len(found["toy"].contexts.pool) == 2 and math.isnan(found["toy"].context_tokens)
