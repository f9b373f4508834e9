"""Attempts that another began: where they are cut, and how an engine goes on from there."""

from __future__ import annotations

import dataclasses

import pytest
from opcd_bench.tasks.frozen_lake import FrozenLake
from opcd_bench.tasks.rule_math import RuleMath

from opcd_bench.models.decoded import reply_text
from opcd_bench.rollout.begun import Begun, begun, written
from opcd_bench.rollout.engine import Reply, Request, Sampling
from opcd_bench.rollout.episodes import play
from opcd_bench.rollout.hf import HFEngine

GREEDY = Sampling(temperature=0.0, max_completion_length=24)


def attempts(task, loaded, sampling=GREEDY, count=4, **more):
    examples = list(task.examples("dev")[:count])
    return examples, play(
        task, examples, HFEngine(loaded), loaded, sampling,
        seeds=range(count), env_seeds=[7] * count, **more,
    )  # fmt: skip


def replies(*lengths):
    """An attempt of turns whose replies have so many tokens."""
    made = [Reply(tuple(range(n)), (-0.5,) * n, "", "stop") for n in lengths]
    turn = dataclasses.make_dataclass("Turn", ["reply"])
    return dataclasses.make_dataclass("Attempt", ["turns"])([turn(reply) for reply in made])


def test_a_share_counts_the_tokens_of_all_turns_and_never_the_last_one():
    assert begun(replies(8), 0.0) == Begun()
    assert begun(replies(8), 0.5).ids == (0, 1, 2, 3)
    assert begun(replies(1), 0.75).ids == ()
    cut = begun(replies(4, 4), 0.75)
    assert [len(reply.ids) for reply in cut.replies] == [4] and cut.ids == (0, 1)
    assert cut.logprobs == (-0.5, -0.5)
    between = begun(replies(4, 4), 0.5)
    assert [len(reply.ids) for reply in between.replies] == [4] and between.ids == ()


@pytest.mark.parametrize("task", [RuleMath(), FrozenLake()], ids=lambda task: task.name)
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75])
def test_a_greedy_writer_that_goes_on_from_its_own_tokens_writes_what_it_wrote(
    task, share, tiny_loaded
):
    examples, first = attempts(task, tiny_loaded)
    _, again = attempts(task, tiny_loaded, begun=[begun(one, share) for one in first])
    assert [[t.reply.ids for t in one.turns] for one in again] == [
        [t.reply.ids for t in one.turns] for one in first
    ]
    assert [one.grade for one in again] == [one.grade for one in first]
    assert [t.reply.finish for one in again for t in one.turns] == [
        t.reply.finish for one in first for t in one.turns
    ]
    assert len(examples) == len(again)


class Long:
    """An engine that always writes as much as it may."""

    def __init__(self):
        self.lengths = []

    def generate(self, requests, sampling):
        n = sampling.max_completion_length
        self.lengths.append((len(requests), n))
        return [Reply((70,) * n, (-1.0,) * n, "x" * n, "length") for _ in requests]


def test_a_reply_with_what_was_begun_is_no_longer_than_any_other(tiny_loaded):
    engine = Long()
    prompts = [
        (Request((1, 5), 0), Begun(ids=(66, 67), logprobs=(-0.1, -0.2))),
        (Request((1, 5), 1), Begun(ids=(66,) * 6, logprobs=(-0.1,) * 6)),
    ]
    found = written(engine, prompts, Sampling(max_completion_length=8), tiny_loaded)
    assert engine.lengths == [(2, 6)]
    assert [len(reply.ids) for reply in found] == [8, 8]
    assert found[1].ids == (66,) * 6 + (70,) * 2 and found[1].finish == "length"
    assert found[1].text == reply_text(tiny_loaded.tokenizer, found[1].ids)
    assert found[0].logprobs[:2] == (-0.1, -0.2)


def test_prompts_that_would_not_fit_beside_shorter_ones_are_asked_apart(tiny_loaded):
    engine = Long()
    room = tiny_loaded.max_length
    prompts = [
        (Request((1,) * 4, 0), Begun()),
        (Request((1,) * (room - 8), 1), Begun(ids=(66,) * 6, logprobs=(0.0,) * 6)),
    ]
    found = written(engine, prompts, Sampling(max_completion_length=8), tiny_loaded)
    assert sorted(engine.lengths) == [(1, 2), (1, 8)]
    assert [len(reply.ids) for reply in found] == [8, 8]
