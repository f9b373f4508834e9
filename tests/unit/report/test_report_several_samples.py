"""pass@k and distinct answers, where a prompt has four or more samples."""

from math import comb

import pandas as pd
import pytest

from opcd_bench.report.analysis import several_samples, statistics
from opcd_bench.report.analysis.stored_samples import Column, Record, SampleSet

BASE = Column.anchor("base", "base-test-s0")


def run(method, seed=0, rate=1e-3):
    return Column("method", method, rate, seed, f"toy--{method}--s{seed}")


def records(**prompts):
    """Prompt -> a text of outcomes and answers: ``c7 w3`` is correct with 7, then wrong with 3."""
    outcomes = {"c": "correct", "w": "wrong", "u": "unparsable", "f": "failed"}
    return {
        (prompt, number): Record(outcomes[one[0]], one[1:] or None, None, ())
        for prompt, said in prompts.items()
        for number, one in enumerate(said.split())
    }


def frame(columns, rates=None, split="test"):
    one = SampleSet("toy", "toy", split, columns)
    found = several_samples.several([one], {"toy": rates or {"opcd": 1e-3, "jsd": 1e-3}})
    return found.set_index("method")


def test_pass_at_k_is_the_chance_that_one_of_k_is_correct():
    assert several_samples.pass_at(1, 2, 8) == pytest.approx(2 / 8)
    assert several_samples.pass_at(4, 2, 8) == pytest.approx(1 - comb(6, 4) / comb(8, 4))
    assert several_samples.pass_at(4, 0, 8) == 0
    assert several_samples.pass_at(8, 1, 8) == 1


def test_of_four_samples_pass_at_1_and_4_and_the_distinct_answers_are_counted():
    row = frame({run("opcd"): records(a="c7 w3 w3 w5", b="w1 w1 w1 u")}).loc["opcd"]
    assert row["pass at 1"].value == pytest.approx((1 / 4 + 0) / 2)
    assert row["pass at all"].value == pytest.approx(1 / 2)
    assert row["distinct"].value == pytest.approx((3 + 2) / 2)
    assert (row["samples"], row["prompts"], row["seeds"]) == (4, 2, 1)


def test_a_method_that_seeks_modes_shows_it():
    """One answer again and again: the same pass@1, a lower pass@4 and fewer answers."""
    found = frame(
        {
            run("opcd"): records(a="c7 c7 c7 c7", b="w3 w3 w3 w3"),
            run("jsd"): records(a="c7 c7 w1 w2", b="c7 w1 c7 w5"),
        }
    )
    assert found.loc["opcd", "pass at 1"].value == found.loc["jsd", "pass at 1"].value == 0.5
    assert found.loc["opcd", "pass at all"].value < found.loc["jsd", "pass at all"].value
    assert found.loc["opcd", "distinct"].value < found.loc["jsd", "distinct"].value


def test_three_samples_are_too_few():
    assert frame({run("opcd"): records(a="c7 w3 w3")}).empty


def test_a_failed_sample_is_none():
    assert frame({run("opcd"): records(a="c7 w3 w3 f")}).empty
    assert frame({run("opcd"): records(a="c7 w3 w3 w1 f")}).loc["opcd", "samples"] == 4


def test_of_more_samples_than_the_fewest_as_many_are_counted():
    row = frame({run("opcd"): records(a="c1 w2 w3 w4 w5", b="c1 w2 w3 w4")}).loc["opcd"]
    assert row["samples"] == 4
    assert row["pass at all"].value == pytest.approx((several_samples.pass_at(4, 1, 5) + 1) / 2)
    assert row["distinct"].value == 4


def test_seeds_are_averaged_and_other_rates_and_retention_left_out():
    columns = {
        BASE: records(a="w1 w1 w1 w1"),
        run("opcd", 0): records(a="c7 c7 c7 c7"),
        run("opcd", 1): records(a="w7 w7 w7 w7"),
        run("opcd", 0, 3e-3): records(a="w7 w7 w7 w7"),
    }
    found = frame(columns)
    assert found.loc["opcd", "pass at 1"].value == 0.5
    assert found.loc["opcd", "seeds"] == 2
    assert list(found.index) == ["base", "opcd"]
    assert frame(columns, split="retention").empty


def test_of_several_seeds_the_interval_is_that_of_accuracy():
    """Seeds at 50, 60 and 70 %: trainings are drawn anew too, as in the headline's row."""
    columns, rows = {}, []
    for seed, right in enumerate((20, 24, 28)):
        prompts = {f"p{at}": "c7 c7 c7 c7" if at < right else "w1 w1 w1 w1" for at in range(40)}
        columns[run("opcd", seed)] = records(**prompts)
        rows += [(f"p{at}", seed, float(at < right)) for at in range(40) for _ in range(4)]
    row = frame(columns).loc["opcd"]
    wanted = statistics.mean(pd.DataFrame(rows, columns=["example_id", "seed", "score"]))
    assert row["pass at 1"] == wanted and row["seeds"] == 3
    assert (wanted.value, wanted.high - wanted.low > 0.3) == (pytest.approx(0.6), True)
    without = frame({BASE: records(a="c7 w3 w3 w5", b="c7 c7 w3 w5", c="w1 w1 w1 w1")})
    assert without.loc["base", "pass at 1"].value == pytest.approx(0.25)
