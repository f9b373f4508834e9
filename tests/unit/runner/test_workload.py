"""Tokens and seconds of a suite: hand-made sums, and what paces make of them."""

from __future__ import annotations

import dataclasses

import pytest
from toy import Toy, toy_suite

from opcd_bench.runner import registry
from opcd_bench.runner.estimate.workload import (
    Pace,
    Tokens,
    retention_tokens,
    runs_of,
    seconds,
    work,
)


class Game(Toy):
    max_turns = 5


def methods(*names):
    return {name: registry.method(name) for name in names}


def suite(tmp_path, **values):
    base = {
        "methods": ["sft_context", "opcd"], "seeds": 2, "learning_rate": [1e-3, 1e-4],
        "num_generations": 3, "dev_items": 4, "test_items": 5, "eval_samples": 2,
    }  # fmt: skip
    return toy_suite(tmp_path, tmp_path, **{**base, **values})


def pace(**values) -> Pace:
    base = {
        "steps": 6, "trained": 10.0, "written": 10.0, "seconds_written": 2.0,
        "seconds_trained": 3.0, "phases": {}, "other_seconds": None, "peak_bytes": 1,
    }  # fmt: skip
    return Pace(**{**base, **values})


def test_bounds_are_full_replies_times_steps_times_cells(tmp_path):
    """Two methods, two rates, two seeds, six steps of 2 x 3 replies of at most 6 tokens."""
    made = work(suite(tmp_path), Toy(), methods("sft_context", "opcd"), {})
    step = 2 * 3 * 6
    evaluated = (
        8 * 3 * 4 * 6  # dev after steps 2, 4 and 6 of eight cells
        + 8 * 5 * 2 * 6  # test, two samples
        + (4 + 2 * 5 * 2) * 6  # base on dev, base and ceiling on test: greedy, so once
    )
    assert (made.cells, made.steps) == (8, 48)
    assert made.at_most == Tokens(
        written=4 * 6 * step,  # opcd's own
        told_written=2 * 6 * step,  # once a seed: both rates read them
        teacher_scored=4 * 6 * step,  # likelihood reads no teacher
        trained=8 * 6 * step,
        evaluated=evaluated,
    )
    assert made.expected is None


def test_a_game_is_counted_to_its_last_turn(tmp_path):
    one, five = (
        work(suite(tmp_path), task, methods("opcd"), {}).at_most for task in (Toy(), Game())
    )
    assert dataclasses.astuple(five) == tuple(5 * count for count in dataclasses.astuple(one))


def test_sampled_evaluation_scores_base_and_ceiling_once_a_seed(tmp_path):
    greedy, sampled = (
        work(suite(tmp_path, eval_temperature=t), Toy(), methods("opcd"), {}).at_most.evaluated
        for t in (0.0, 0.7)
    )
    assert sampled - greedy == (4 + 2 * 5 * 2) * 6


def test_seeds_that_wait_for_the_best_rate_on_dev_and_rounds_are_counted(tmp_path):
    waiting = suite(tmp_path, seeds=3, sweep_seeds=1, headline_learning_rate="dev")
    assert runs_of(waiting) == [0, 0, 1, 2]
    assert runs_of(suite(tmp_path)) == [0, 1, 0, 1]
    assert len(runs_of(suite(tmp_path).model_copy(update={"rounds": 3}))) == 12


def test_a_larger_teachers_told_replies_are_written_apart(tmp_path):
    names = ("sft_context", "sft_context_larger")
    both = work(suite(tmp_path, teacher_model="x"), Toy(), methods(*names), {}).at_most
    one = work(suite(tmp_path, teacher_model="x"), Toy(), methods(names[0]), {}).at_most
    assert both.told_written == 2 * one.told_written


def test_retention_is_counted_where_its_items_are_limited(tmp_path):
    limited = {"retention": ["ifeval_micro"], "retention_max_completion_length": 7}
    assert retention_tokens(suite(tmp_path, **limited, retention_items=3)) == 21
    assert retention_tokens(suite(tmp_path, **limited)) == 0
    with_it, without = (
        work(suite(tmp_path, **limited, retention_items=n), Toy(), methods("opcd"), {}).at_most
        for n in (3, None)
    )
    # four cells, at three evaluated steps: the chosen one is among them
    assert with_it.evaluated - without.evaluated == 4 * 3 * 21
    at_the_end = suite(tmp_path, **limited, retention_items=3, eval_retention=False)
    assert work(at_the_end, Toy(), methods("opcd"), {}).at_most.evaluated == (
        without.evaluated + 4 * 21
    )


def test_retention_is_scored_at_the_lengths_of_the_suite_whatever_a_task_sets(tmp_path):
    values = {"retention": ["told_other"], "retention_items": 3, "max_completion_length": 6}
    shorter = {"task_settings": {"toy": {"max_completion_length": 2}}}
    with_it, without = (
        work(suite(tmp_path, **{**values, **shorter, "retention_items": n}), Toy(),
             methods("opcd"), {}).at_most.evaluated
        for n in (3, None)
    )  # fmt: skip
    turns = registry.task("told_other").max_turns
    assert with_it - without == 4 * 3 * 3 * turns * 6


ROUNDS = {"items": 3, "seeds": 4, "max_reflection_length": 9}


def test_every_round_of_every_chain_makes_told_replies_and_bases_of_its_own(tmp_path):
    """Two methods, two rates, two seeds: eight chains, of three rounds each."""
    limited = {"retention": ["ifeval_micro"], "retention_max_completion_length": 7}
    chained = suite(
        tmp_path, rounds=3, experience={**ROUNDS, "select": "first-1"}, retention_items=3, **limited
    )
    found = work(chained, Toy(), methods("sft_context", "opcd"), {})
    step, cells = 2 * 3 * 6, 24
    made = 2 + 2 * 8  # chains of a seed attempt alike in their first round
    evaluated = (
        cells * 3 * 4 * 6  # dev after steps 2, 4 and 6
        + cells * 5 * 2 * 6  # test, two samples
        + cells * (4 + 2 * 5 * 2) * 6  # base on dev, base and ceiling on test
        + cells * (3 + 1) * 21  # retention: at three steps, of the base
    )
    assert (found.cells, found.steps) == (cells, cells * 6)
    assert found.at_most == Tokens(
        written=12 * 6 * step + made * 3 * 4 * (6 + 9),
        told_written=12 * 6 * step,
        teacher_scored=12 * 6 * step,
        trained=cells * 6 * step,
        evaluated=evaluated,
    )


def test_states_that_are_replayed_are_not_scored(tmp_path):
    replayed, as_ever = (
        work(suite(tmp_path, experience=ROUNDS, consolidate="replay", **more), Toy(),
             methods("opcd"), {}).at_most
        for more in ({"train_items": 3}, {})
    )  # fmt: skip
    assert replayed == as_ever


def test_one_round_with_an_experience_is_a_chain_and_raw_traces_write_no_reflections(tmp_path):
    lessons, raw = (
        work(suite(tmp_path, experience={**ROUNDS, "variant": variant}), Toy(),
             methods("opcd"), {}).at_most.written
        for variant in ("memoryless", "raw-traces")
    )  # fmt: skip
    assert lessons - raw == 2 * 3 * 4 * 9
    plain = work(suite(tmp_path), Toy(), methods("opcd"), {}).at_most.written
    assert raw - plain == 2 * 3 * 4 * 6


@pytest.mark.parametrize(
    ("seeds", "dev_items", "samples"),
    [
        (1, 200, 0),  # one candidate: nothing to choose
        (2, 4, 2 * 4 + 4),  # two, and plain
        (2, 200, 2 * 16 + 16 + 32),
        (4, 4, 4 * 4 + 4),  # no more to halve on
        (4, 200, 4 * 16 + 2 * 16 + 32 + 64),  # all on 16, two on 16 more, one on 32 more; plain
    ],
)
def test_choosing_the_best_candidate_scores_dev_by_halving(tmp_path, seeds, dev_items, samples):
    best, first = (
        work(suite(tmp_path, dev_items=dev_items,
                   experience={**ROUNDS, "seeds": seeds, "select": rule}), Toy(),
             methods("opcd"), {}).at_most.evaluated
        for rule in ("best", "first-1")
    )  # fmt: skip
    assert best - first == 2 * samples * 6


def test_what_rounds_write_is_expected_as_full_as_training_is(tmp_path):
    chained = suite(tmp_path, experience={**ROUNDS, "select": "first-1"})
    both, paces = methods("opcd"), {"opcd": pace(trained=12.0, written=12.0, seconds_written=3.0)}
    made = work(chained, Toy(), both, paces)
    extracted = 2 * 3 * 4 * (6 + 9) * 12 / 36
    assert made.expected.written == 4 * 6 * 12 + extracted
    assert seconds(chained, Toy(), both, paces).writing == 4 * 6 * 3.0 + extracted * 3.0 / 12


def test_paces_say_what_is_expected_and_their_mean_stands_in_for_methods_without(tmp_path):
    both = methods("sft_context", "opcd")
    paces = {
        "sft_context": pace(trained=8.0, written=0.0),
        "opcd": pace(trained=12.0, written=12.0),
    }
    made = work(suite(tmp_path), Toy(), both, paces)
    assert made.expected == Tokens(
        written=4 * 6 * 12,
        told_written=2 * 6 * 8,
        teacher_scored=4 * 6 * 12,
        trained=4 * 6 * (8 + 12),
        evaluated=round(made.at_most.evaluated * 10 / 36),
    )
    alone = work(suite(tmp_path), Toy(), both, {"opcd": paces["opcd"]}).expected
    assert (alone.trained, alone.written) == (8 * 6 * 12, 4 * 6 * 12)


def test_told_replies_take_their_time_once_a_seed_and_steps_every_time(tmp_path):
    both = methods("sft_context", "opcd")
    paces = {
        "sft_context": pace(written=0.0, seconds_written=5.0, seconds_trained=1.0),
        "opcd": pace(seconds_written=2.0, seconds_trained=3.0, other_seconds=100.0),
    }
    found = seconds(suite(tmp_path), Toy(), both, paces)
    assert found.writing == 4 * 6 * 2.0 + 2 * 6 * 5.0
    assert found.training == 4 * 6 * (1.0 + 3.0)
    assert found.other == 8 * 100.0
    assert found.total == found.writing + found.training + found.other


def test_an_adapted_teacher_is_trained_once_a_seed_in_tokens_and_in_time(tmp_path):
    name = "opcd[by=grpo,weights=adapted]"
    plain, adapted = methods("opcd"), methods(name)
    own = pace(seconds_written=2.0, seconds_trained=3.0, other_seconds=0.0)
    before = seconds(suite(tmp_path), Toy(), plain, {"opcd": own})
    after = seconds(suite(tmp_path), Toy(), adapted, {name: own})
    assert after.training - before.training == 2 * 6 * 3.0
    assert after.writing - before.writing == 2 * 6 * 2.0
    bounds = [work(suite(tmp_path), Toy(), one, {}).at_most for one in (plain, adapted)]
    assert bounds[1].trained - bounds[0].trained == 2 * 6 * 36


def test_rounds_of_chains_share_no_adapted_teacher(tmp_path):
    both = methods("opcd[by=grpo,weights=adapted]", "opcd_full[by=grpo,weights=adapted]")
    plain = methods("opcd", "opcd_full")
    long = suite(tmp_path, rounds=3, experience={**ROUNDS, "select": "first-1"})
    bounds = [work(long, Toy(), one, {}).at_most for one in (plain, both)]
    assert bounds[1].trained - bounds[0].trained == 2 * len(runs_of(long)) * 6 * 36


def test_without_a_whole_cell_evaluation_is_timed_by_the_speed_of_writing(tmp_path):
    both = methods("opcd")
    paces = {"opcd": pace(trained=12.0, seconds_written=2.0)}
    found = seconds(suite(tmp_path), Toy(), both, paces)
    expected = work(suite(tmp_path), Toy(), both, paces).expected.evaluated
    assert found.other == pytest.approx(expected * 2.0 / 12.0)
    assert seconds(suite(tmp_path), Toy(), both, {}) is None
