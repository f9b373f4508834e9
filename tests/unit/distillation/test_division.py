"""Division of a step among processes: everything is done once, and all take as many turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opcd_bench.config.suite import make_suite
from opcd_bench.distillation.division import parts, runs, shares
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.trainer import token_weights


def suite(**values):
    base = {"methods": "opcd", "tasks": "rule_math", "learning_rate": 1e-3, "max_steps": 4}
    return make_suite({**base, **values}, "test")


def pairs(lengths):
    return [Pair(f"e{i}", 0, (5,) * 3, (5,) * 7, (6,) * n) for i, n in enumerate(lengths)]


def test_runs_are_neighbours_and_as_even_as_can_be():
    assert runs(7, 3) == [range(0, 2), range(2, 4), range(4, 7)]
    assert runs(1, 3) == [range(0, 0), range(0, 0), range(0, 1)]
    assert runs(6, 1) == [range(6)]


def test_the_dearest_go_first_to_who_has_least_to_do():
    assert shares([1, 9, 2, 8], 2) == [[0, 1], [2, 3]]
    assert shares([5, 5, 5], 2) == [[0, 2], [1]]
    assert shares([3], 2) == [[0], []]


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 5))
def test_every_item_is_taken_once_and_no_load_is_above_the_others_by_more_than_an_item(
    costs, processes
):
    taken = shares(costs, processes)
    assert sorted(item for items in taken for item in items) == list(range(len(costs)))
    loads = [sum(costs[item] for item in items) for items in taken]
    assert max(loads) - min(loads) <= max(costs, default=0)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 3))
def test_all_processes_have_as_many_micro_batches_and_weights_add_up_to_one(
    lengths, processes, size
):
    batch, settings = pairs(lengths), suite(micro_batch_size=size)
    weights = token_weights(batch, "token_mean")
    every = [parts(batch, weights, settings, rank, processes) for rank in range(processes)]
    assert len({len(own) for own in every}) == 1
    real = [part for own in every for part in own if not part.filler]
    assert sorted(p.example_id for part in real for p in part.pairs) == sorted(
        p.example_id for p in batch
    )
    total = sum(
        weight * len(pair.reply_ids)
        for own in every
        for part in own
        for pair, weight in zip(part.pairs, part.weights, strict=True)
    )
    assert total == pytest.approx(1.0)
    assert any(not own[0].filler for own in every)


def test_a_filler_is_the_shortest_pair_with_no_weight():
    batch = pairs([4, 2, 9])
    weights = token_weights(batch, "token_mean")
    first, second = (parts(batch, weights, suite(micro_batch_size=1), rank, 2) for rank in (0, 1))
    assert [part.filler for part in first] == [False, True]
    assert first[1].pairs == [batch[1]] and first[1].weights == [0.0]
    assert [part.begin for part in second] == [0, 1]


def test_alone_a_process_takes_the_micro_batches_in_order():
    batch = pairs([4, 2, 9])
    own = parts(batch, [1.0, 2.0, 3.0], suite(micro_batch_size=2))
    assert [(part.pairs, part.weights, part.begin, part.filler) for part in own] == [
        (batch[:2], [1.0, 2.0], 0, False),
        (batch[2:], [3.0], 2, False),
    ]
