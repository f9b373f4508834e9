"""Playing episodes as a batch: who is asked when, what is recorded, and how an attempt ends."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Literal

import pytest
from fixtures import tiny_tokenizer
from opcd_bench.tasks.frozen_lake import FrozenLake
from opcd_bench.tasks.rule_math import RuleMath

from opcd_bench import preemption
from opcd_bench.envs.task import (
    BestPossible,
    Context,
    Episode,
    Example,
    Floor,
    Grade,
    Message,
    Task,
    Turn,
)
from opcd_bench.errors import DataError, MissingPackage
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.prompts import prompt_ids
from opcd_bench.rollout.begun import Begun
from opcd_bench.rollout.engine import Reply, Request, Sampling
from opcd_bench.rollout.episodes import play
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.rollout.trajectory import Skipped, Trajectory
from opcd_bench.seeds import seed_of

TOKENIZER = tiny_tokenizer()


class Counting(Episode):
    """Asks ``turns`` times; ``fault`` says where it raises; graded ``score``."""

    def __init__(self, example: Example, seed: int) -> None:
        self.plan = example.content
        self.seed = seed
        self.replies: list[str] = []
        self.messages: Sequence[Message] = self._asked()

    def _asked(self) -> tuple[Message, ...]:
        text = f"{self.plan['name']} turn {len(self.replies)} env {self.seed}"
        return ({"role": "user", "content": text + "." * self.plan.get("pad", 0)},)

    def step(self, reply: str) -> Turn:
        if self.plan.get("fault") == "step":
            raise RuntimeError("the board is gone")
        self.replies.append(reply)
        self.messages = self._asked()
        return Turn(tuple(self.messages), len(self.replies) >= self.plan["turns"])

    def grade(self) -> Grade:
        if self.plan.get("fault") == "grade":
            return None  # type: ignore[return-value]
        if self.plan.get("fault") == "user":
            raise MissingPackage("textarena", "pip install textarena")
        return Grade(self.plan["score"], "|".join(self.replies), "as planned")

    def feedback(self) -> str:
        return f"{len(self.replies)} replies"


class Planned(Task):
    name, version, summary, max_turns = "planned", 1, "does what its examples say", 4

    def context(self) -> Context:
        return Context("told")

    def examples(self, split: str) -> Sequence[Example]:
        return ()

    def open(self, example: Example, seed: int) -> Episode:
        if example.content.get("fault") == "open":
            raise KeyError("no such map")
        return Counting(example, seed)

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        return ()

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        return BestPossible(1.0, "")


class Recording:
    """An engine that answers with the seed and keeps what it was asked; every 4th is cut off."""

    def __init__(self, finish: str = "stop") -> None:
        self.calls: list[list[Request]] = []
        self.finish = finish

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Reply]:
        self.calls.append(list(requests))
        return [Reply((5, 2), (-0.5, -0.25), f"r{r.seed % 97}", self.finish) for r in requests]


THINKS = str(TOKENIZER.chat_template).replace("assistant\n{% endif", "assistant\n<think>\n{% endif")


class Says(Recording):
    """An engine that says one thing."""

    def __init__(self, text: str, finish: str = "stop") -> None:
        super().__init__(finish)
        self.text = text

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Reply]:
        return [Reply((5, 2), (-0.5, -0.25), self.text, self.finish) for _ in requests]


def example(name: str, turns: int = 1, score: float | None = 1.0, **more: object) -> Example:
    return Example({"name": name, "turns": turns, "score": score, **more})


def played(
    examples: Sequence[Example], engine: Recording | None = None, **settings: object
) -> list[Trajectory | Skipped]:
    count = len(examples)
    return play(
        Planned(), examples, engine or Recording(), TOKENIZER, Sampling(),
        seeds=range(count), env_seeds=range(100, 100 + count), **settings,
    )  # fmt: skip


def only(results: list[Trajectory | Skipped]) -> Trajectory:
    (result,) = results
    assert isinstance(result, Trajectory)
    return result


def test_every_turn_is_one_call_and_finished_episodes_leave_it() -> None:
    engine = Recording()
    results = played([example("a", 1), example("b", 3), example("c", 2)], engine)
    assert [len(call) for call in engine.calls] == [3, 2, 1]
    assert [len(result.turns) for result in results] == [1, 3, 2]
    assert [[r.seed for r in call] for call in engine.calls] == [
        [seed_of(0, 0), seed_of(1, 0), seed_of(2, 0)],
        [seed_of(1, 1), seed_of(2, 1)],
        [seed_of(1, 2)],
    ]


def test_a_record_holds_the_plain_messages_and_the_exact_reply() -> None:
    engine = Recording()
    result = only(played([example("a", 2)], engine))
    contents = [turn.messages[0]["content"] for turn in result.turns]
    assert contents == ["a turn 0 env 100", "a turn 1 env 100"]
    for turn, call in zip(result.turns, engine.calls, strict=True):
        assert turn.prompt_ids == call[0].prompt_ids == prompt_ids(TOKENIZER, turn.messages)
        assert turn.reply.ids == (5, 2)
    assert result.feedback == "2 replies"
    assert result.grade.answer == "|".join(turn.reply.text for turn in result.turns)


def test_a_told_writer_reads_the_context_and_the_record_stays_plain() -> None:
    engine = Recording()
    told = only(played([example("a", 2)], engine, context=Context("told")))
    for turn, call in zip(told.turns, engine.calls, strict=True):
        assert [message["role"] for message in turn.messages] == ["user"]
        expected = [{"role": "system", "content": "told"}, *turn.messages]
        assert call[0].prompt_ids == turn.prompt_ids == prompt_ids(TOKENIZER, expected)
    plain = only(played([example("a", 2)]))
    assert [t.messages for t in plain.turns] == [t.messages for t in told.turns]
    assert only(played([example("a", 2)], context=Context(""))) == plain


@pytest.mark.parametrize(
    ("score", "finish", "outcome"),
    [
        (1.0, "stop", "correct"),
        (1.0, "length", "correct"),
        (0.5, "stop", "wrong"),
        (0.0, "length", "truncated"),
        (None, "length", "truncated"),
        (None, "stop", "unparsable"),
    ],
)
def test_the_outcome_follows_from_score_and_finish(
    score: float | None, finish: str, outcome: str
) -> None:
    assert only(played([example("a", 1, score)], Recording(finish))).outcome == outcome


@pytest.mark.parametrize(
    ("fault", "why", "turns"),
    [
        ("open", "KeyError: 'no such map'", 0),
        ("step", "RuntimeError: the board is gone", 1),
        ("grade", "TypeError: grade() returned None", 2),
    ],
)
def test_a_task_that_raises_fails_its_own_episode_alone(fault: str, why: str, turns: int) -> None:
    failed, other = played([example("a", 2, fault=fault), example("b", 2)])
    assert isinstance(failed, Trajectory)
    assert (failed.outcome, failed.grade.score, len(failed.turns)) == ("failed", None, turns)
    assert "Traceback" in failed.grade.why
    assert why in failed.grade.why
    assert isinstance(other, Trajectory)
    assert (other.outcome, len(other.turns)) == ("correct", 2)


def test_what_is_raised_as_the_node_is_taken_away_is_no_fault_of_the_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preemption, "_LEAVING", [True])
    with pytest.raises(RuntimeError, match="the board is gone"):
        played([example("a", 2, fault="step"), example("b", 2)])


class Picky(Episode):
    """Fails on a reply with an x, where its example says: on reading, on grading, on feedback."""

    def __init__(self, example: Example) -> None:
        self.fault = example.content["fault"]
        self.messages: Sequence[Message] = ({"role": "user", "content": "?"},)
        self.reply = ""

    def _stumble(self, where: str) -> None:
        if self.fault in (where, f"{where} always"):
            if "x" in self.reply or self.fault.endswith("always"):
                raise ValueError(f"no {where} of {self.reply!r}\nat all")
            if not self.reply:
                raise IndexError("it does not expect an empty reply either")

    def step(self, reply: str) -> Turn:
        self.reply = reply
        self._stumble("step")
        return Turn(tuple(self.messages), True)

    def grade(self) -> Grade:
        self._stumble("grade")
        return Grade(1.0, self.reply, "as it is", {"other": 1.0})

    def feedback(self) -> str:
        self._stumble("feedback")
        return ""


class PickyTask(Planned):
    max_turns = 1

    def open(self, example: Example, seed: int) -> Episode:
        return Picky(example)


def picked(fault: str, said: str, finish: str = "stop", turns: int = 1) -> Trajectory:
    task = PickyTask()
    task.max_turns = turns
    one = Example({"fault": fault}, reference="7")
    return only(
        play(task, [one], Says(said, finish), TOKENIZER, Sampling(), seeds=[0], env_seeds=[0])
    )


@pytest.mark.parametrize("where", ["step", "grade", "feedback"])
def test_a_reply_on_which_the_grader_raises_is_unparsable_and_says_why(where: str) -> None:
    found = picked(where, "x")
    assert (found.outcome, found.grade.score, found.grade.also) == (
        "unparsable",
        None,
        {"other": 0.0},
    )
    why = f"the grader raised on this reply, not on others: ValueError: no {where} of 'x'"
    assert found.grade.why == why
    assert picked(where, "").outcome == "unparsable"
    assert picked(where, "y").outcome == "correct"
    assert picked(where, "x", "length").outcome == "truncated"


@pytest.mark.parametrize("where", ["step", "grade", "feedback"])
def test_a_grader_that_raises_on_every_reply_is_broken(where: str) -> None:
    found = picked(f"{where} always", "x")
    assert (found.outcome, found.grade.score) == ("failed", None)
    assert "Traceback" in found.grade.why


def test_an_environment_of_several_turns_that_breaks_on_a_reply_has_failed() -> None:
    assert picked("step", "x", turns=2).outcome == "failed"


def test_a_game_s_reader_that_raises_is_the_reply_s_doing() -> None:
    class Reads(FrozenLake):
        def action_of(self, reply: str) -> str | None:
            return str(int(reply)) if reply else None

    task = Reads()
    (one, *_) = task.examples("dev")
    found = only(
        play(task, [one], Says("9" * 5000), TOKENIZER, Sampling(), seeds=[0], env_seeds=[0])
    )
    assert found.outcome == "unparsable"
    assert "Unreadable: ValueError: Exceeds the limit" in found.grade.why


@pytest.mark.parametrize(
    ("said", "finish", "outcome"),
    [
        ("Answer: REFERENCE", "stop", "correct"),
        ("Answer: REFERENCE", "length", "truncated"),
        ("**Answer**: **REFERENCE", "length", "truncated"),
        ("Answer: REFERENCE\n", "length", "correct"),
        ("Answer: REFERENCE\nThat is", "length", "correct"),
        ("Answer: REFERENCE, since", "length", "correct"),
        ("Answer: 1000", "length", "truncated"),
        ("Answer: REFERENCE <think>or", "length", "correct"),
    ],
)
def test_a_reply_that_is_cut_inside_its_answer_is_truncated(
    said: str, finish: str, outcome: str
) -> None:
    task = RuleMath()
    (one, *_) = task.examples("dev")
    engine = Says(said.replace("REFERENCE", str(one.reference)), finish)
    found = only(play(task, [one], engine, TOKENIZER, Sampling(), seeds=[0], env_seeds=[0]))
    assert found.outcome == outcome
    assert (found.grade.score == 1.0) is (outcome == "correct")
    if outcome == "truncated" and "1000" not in said:
        assert found.grade.why.startswith("cut off by the length limit inside its answer (")


def test_a_reply_that_was_cut_where_its_grade_does_not_hang_on_it_is_right() -> None:
    assert picked("none", "[up]", "length").outcome == "correct"


def test_what_the_user_can_put_right_is_not_swallowed() -> None:
    with pytest.raises(MissingPackage):
        played([example("a", 1, fault="user")])


def test_an_error_of_the_engine_is_not_the_task_s_failure() -> None:
    class Broken:
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Reply]:
            raise RuntimeError("engine")

    with pytest.raises(RuntimeError, match="engine"):
        played([example("a")], Broken())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "finish", "outcome"),
    [
        ("maybe Answer: REFERENCE", "length", "truncated"),
        ("maybe Answer: REFERENCE", "stop", "unparsable"),
        ("maybe Answer: 1</think>\n\nAnswer: REFERENCE", "stop", "correct"),
        ("maybe Answer: REFERENCE</think>\n\nAnswer: 1000", "stop", "wrong"),
    ],
)
def test_a_reply_that_begins_in_a_thought_of_the_prompt_is_graded_by_what_follows_it(
    said: str, finish: str, outcome: str
) -> None:
    task = RuleMath()
    one = task.examples("dev")[0]
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = THINKS
    result = only(
        play(
            task,
            [one],
            Says(said.replace("REFERENCE", str(one.reference)), finish),
            tokenizer,
            Sampling(),
            seeds=[0],
            env_seeds=[0],
        )
    )
    assert result.outcome == outcome
    assert result.turns[0].reply.text.startswith("<think>\nmaybe")
    assert result.turns[0].reply.ids == (5, 2)


def test_an_episode_is_stopped_and_graded_after_max_turns() -> None:
    assert len(only(played([example("a", 9, 0.0)])).turns) == Planned.max_turns


def test_an_overlong_prompt_is_refused_with_example_length_and_knob() -> None:
    long = example("a", 1, pad=80)
    length = len(prompt_ids(TOKENIZER, Counting(long, 100).messages))
    with pytest.raises(
        DataError,
        match=rf"'planned', example {long.id}: the prompt of turn 1 has {length} tokens, more "
        r"than 60 \(max_prompt_length = 60\).*overlong = 'skip'",
    ):
        played([long], max_prompt_length=60)


def test_a_prompt_of_exactly_the_limit_is_read_whole() -> None:
    long = example("a", 1, pad=80)
    length = len(prompt_ids(TOKENIZER, Counting(long, 100).messages))
    result = only(played([long], max_prompt_length=length))
    assert len(result.turns[0].prompt_ids) == length


def test_an_overlong_prompt_is_skipped_and_counted_in_its_place() -> None:
    engine = Recording()
    long = example("long", 1, pad=80)
    first, skipped, last = played(
        [example("a"), long, example("b")], engine, max_prompt_length=100, overlong="skip"
    )
    assert isinstance(skipped, Skipped)
    assert (skipped.example_id, skipped.turn, skipped.limit) == (long.id, 0, 100)
    assert skipped.length > 100
    assert [len(call) for call in engine.calls] == [2]
    assert isinstance(first, Trajectory)
    assert isinstance(last, Trajectory)


class Repeating(Planned):
    """Each turn's prompt repeats the earlier turns and replies; another grader is kinder."""

    def open(self, example: Example, seed: int) -> Episode:
        episode = Counting(example, seed)
        step, grade = episode.step, episode.grade

        def repeating(reply: str) -> Turn:
            before, turn = episode.messages, step(reply)
            said = {"role": "assistant", "content": reply}
            episode.messages = (*before, said, *turn.messages)
            return Turn(tuple(episode.messages), turn.done)

        def kinder() -> Grade:
            return dataclasses.replace(grade(), also={"kinder": 1.0})

        episode.step, episode.grade = repeating, kinder  # type: ignore[method-assign]
        return episode


@pytest.mark.parametrize("overlong", ["refuse", "skip"])
def test_a_game_that_outgrows_the_prompt_by_its_replies_is_lost_as_truncated(overlong) -> None:
    def play_games(limit: int | None) -> list[Trajectory | Skipped]:
        return play(
            Repeating(), [example("a", 4), example("b", 1)], Says("word " * 30), TOKENIZER,
            Sampling(), seeds=[0, 1], env_seeds=[100, 101], max_prompt_length=limit,
            overlong=overlong,
        )  # fmt: skip

    whole, short = play_games(None)
    assert isinstance(whole, Trajectory) and whole.outcome == "correct" and len(whole.turns) == 4
    limit = len(whole.turns[1].prompt_ids)
    outgrown, other = play_games(limit)
    assert isinstance(outgrown, Trajectory)
    assert (outgrown.outcome, outgrown.grade.score) == ("truncated", 0.0)
    assert outgrown.turns == whole.turns[:2] and outgrown.feedback == "2 replies"
    assert outgrown.grade.also == {"kinder": 0.0}
    length = len(whole.turns[2].prompt_ids)
    assert outgrown.grade.why == (
        f"the prompt of turn 3 has {length} tokens, more than {limit} (max_prompt_length = {limit})"
        "; it ends here"
    )
    assert other == short
    assert Trajectory.from_json(outgrown.to_json()) == outgrown


def test_the_first_prompt_that_a_writer_reads_is_refused_or_skipped_whoever_began() -> None:
    (whole,) = play(
        Repeating(), [example("a", 4)], Says("word " * 30), TOKENIZER, Sampling(),
        seeds=[0], env_seeds=[100],
    )  # fmt: skip
    assert isinstance(whole, Trajectory)
    before = Begun(tuple(turn.reply for turn in whole.turns[:2]))
    limit = len(whole.turns[1].prompt_ids)

    def go_on(overlong: Literal["refuse", "skip"]) -> list[Trajectory | Skipped]:
        return play(
            Repeating(), [example("a", 4)], Says("word"), TOKENIZER, Sampling(), seeds=[0],
            env_seeds=[100], max_prompt_length=limit, overlong=overlong, begun=[before],
        )  # fmt: skip

    (skipped,) = go_on("skip")
    assert isinstance(skipped, Skipped) and (skipped.turn, skipped.limit) == (2, limit)
    with pytest.raises(DataError, match="the prompt of turn 3 has"):
        go_on("refuse")


def test_the_model_s_own_room_is_a_limit_too(tiny_loaded: LoadedModel) -> None:
    with pytest.raises(
        DataError, match=r"more than 48 .*reads 2048 tokens, minus max_completion_length"
    ):
        play(
            Planned(), [example("a", 1, pad=80)], Recording(), tiny_loaded,
            Sampling(max_completion_length=2000), seeds=[0], env_seeds=[0],
        )  # fmt: skip


def test_examples_and_seeds_must_be_as_many() -> None:
    with pytest.raises(ValueError, match=r"2 examples need as many seeds \(1\)"):
        play(Planned(), [example("a"), example("b")], Recording(), TOKENIZER, Sampling(),
             seeds=[0], env_seeds=[0, 1])  # fmt: skip


def test_a_trajectory_survives_json(tiny_loaded: LoadedModel) -> None:
    results = play(
        Planned(), [example("ä", 2), example("b", 1, None), example("c", 2, fault="step")],
        HFEngine(tiny_loaded), tiny_loaded, Sampling(max_completion_length=12),
        seeds=[1, 2, 3], env_seeds=[4, 5, 6],
    )  # fmt: skip
    for result in results:
        assert isinstance(result, Trajectory)
        line = json.dumps(result.to_json(), allow_nan=False)
        assert Trajectory.from_json(json.loads(line)) == result
    row = results[0].to_json()
    assert set(row) == {"example_id", "outcome", "score", "answer", "why", "feedback", "turns"}
    assert set(row["turns"][0]) == {
        "messages", "prompt_ids", "reply", "ids", "logprobs", "finish"
    }  # fmt: skip


def test_what_another_grader_says_survives_json_too() -> None:
    kept = only(played([example("a")]))
    graded = dataclasses.replace(kept, grade=Grade(0.0, "3.0", "it is 3", {"other": 1.0}))
    row = json.loads(json.dumps(graded.to_json()))
    assert row["also"] == {"other": 1.0}
    assert Trajectory.from_json(row) == graded
    with pytest.raises(ValueError, match=r"other graders' values lie in \[0, 1\]"):
        Grade(0.0, None, "why", {"other": 2.0})


def test_a_foreign_row_is_refused_by_the_key_it_lacks() -> None:
    row = only(played([example("a")])).to_json()
    del row["turns"][0]["ids"]
    with pytest.raises(DataError, match=r"not a stored trajectory .*'ids'"):
        Trajectory.from_json(row)


def test_a_log_prob_that_json_cannot_say_is_refused() -> None:
    class Nan(Recording):
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Reply]:
            return [Reply((5,), (float("nan"),), "x", "stop") for _ in requests]

    with pytest.raises(ValueError, match="not finite"):
        only(played([example("a")], Nan())).to_json()


def test_batch_mates_change_nothing_in_a_multi_turn_episode(tiny_loaded: LoadedModel) -> None:
    some = [example(name, turns) for name, turns in (("a", 1), ("b", 3), ("c", 2), ("d", 4))]

    def run(chosen: list[int], batch_size: int) -> list[Trajectory | Skipped]:
        return play(
            Planned(), [some[i] for i in chosen], HFEngine(tiny_loaded, batch_size=batch_size),
            tiny_loaded, Sampling(max_completion_length=10),
            seeds=[10 + i for i in chosen], env_seeds=[20 + i for i in chosen],
        )  # fmt: skip

    def ids(result: Trajectory | Skipped) -> list[tuple[int, ...]]:
        assert isinstance(result, Trajectory)
        return [turn.reply.ids for turn in result.turns]

    together = run([0, 1, 2, 3], 8)
    apart = [run([i], 8)[0] for i in range(4)]
    backwards = run([3, 2, 1, 0], 3)[::-1]
    assert [ids(r) for r in together] == [ids(r) for r in apart] == [ids(r) for r in backwards]
