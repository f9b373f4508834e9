"""Rounds: what enters an identity, how states are replayed, what a chain's folder tells."""

import dataclasses

import pytest
from toy import Toy, toy_suite

from opcd_bench import grid, registry, writers
from opcd_bench.chain_dir import ChainDir
from opcd_bench.checkpoints import Checkpoint
from opcd_bench.config import make_suite
from opcd_bench.errors import ConfigError, DataError, StoreError
from opcd_bench.evaluation import protocol
from opcd_bench.experience import chain as chains
from opcd_bench.experience.chain import Begin
from opcd_bench.experience.recipe import Recipe
from opcd_bench.experience.replay import Replay, states_of
from opcd_bench.experience.solve import drawn_examples
from opcd_bench.report import rounds as table
from opcd_bench.rollout.engine import Reply
from opcd_bench.rollout.trajectory import Trajectory, TurnRecord
from opcd_bench.task import Example, Grade

LEAST = {"methods": ["opcd"], "tasks": ["rule_math"]}


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """Makes a suite of the toy task, which the registry gives; no model is there."""
    monkeypatch.setattr(registry, "task", lambda *_, **__: Toy())
    return lambda **values: toy_suite(tmp_path / "model", tmp_path, **values)


def refused(**values):
    with pytest.raises(ConfigError) as caught:
        make_suite({**LEAST, **values}, "a test")
    return str(caught.value)


# --- settings ---------------------------------------------------------------------------------


def test_a_suite_is_chained_by_rounds_or_by_the_table_and_not_otherwise():
    assert not make_suite(LEAST, "here").chained
    assert make_suite({**LEAST, "rounds": 2}, "here").chained
    assert make_suite({**LEAST, "experience": {"items": 4}}, "here").chained


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"consolidate": "replay"}, "without rounds there are none; add rounds = 2"),
        ({"rounds": 2, "context": ["a.txt"]}, "a round makes its context"),
        ({"rounds": 2, "keep_checkpoints": "none"}, "nothing to begin from"),
        (
            {"rounds": 2, "headline_learning_rate": "dev", "sweep_seeds": 1},
            "every rate is a chain of its own",
        ),
        ({"rounds": 0}, "greater than or equal to 1"),
        ({"begin_weights": "ab"}, "given together"),
        ({"begin_folder": "model"}, "given together"),
        ({"experience": {"select": "worst"}}, "experience.select: String should match pattern"),
        ({"experience": {"itms": 3}}, "experience.itms: no such setting"),
        ({"experience": {"items": "3", "seeds": 0}}, "2 settings cannot be used"),
    ],
)
def test_what_cannot_be_a_chain_is_refused_with_the_reason(values, told):
    assert told in refused(**values)


def test_one_round_may_keep_no_checkpoint():
    assert make_suite({**LEAST, "experience": {}, "keep_checkpoints": "none"}, "here").chained


def test_more_rounds_leave_a_chains_name_and_what_they_are_made_of_does_not(toy):
    def name(**values):
        return chains.chains(toy(**values))[0].name

    two = name(rounds=2)
    assert two.startswith("toy--opcd_full--lr1e-03--s0--")
    assert name(rounds=5) == two == name(experience={})
    others = [
        name(rounds=2, experience={"items": 3}),
        name(rounds=2, experience={"select": "random"}),
        name(rounds=2, consolidate="replay"),
        name(rounds=2, max_steps=4),
    ]
    assert len({two, *others}) == 5


def test_there_is_a_chain_for_every_cell_in_the_order_of_the_cells(toy):
    suite = toy(rounds=2, seeds=2, learning_rate=[1e-3, 1e-4], methods=["opcd_full", "opcd_tail"])
    made = chains.chains(suite)
    cells = grid.cells(suite, {m: registry.method(m) for m in suite.methods}, {"toy": Toy()})
    assert [(c.method.name, c.learning_rate, c.seed) for c in made] == [
        (c.method, c.learning_rate, c.seed) for c in cells
    ]
    assert len({c.name for c in made}) == 8


def test_a_rounds_cell_depends_on_its_number_and_on_what_it_begins_from(toy, tmp_path):
    suite = toy(rounds=3)
    (one,) = chains.chains(suite)
    begin = Begin(Checkpoint(2, tmp_path / "elsewhere" / "step_000002"), "0" * 64)

    def key(number, begun):
        made = chains.settings(suite, one, number, begun)
        return grid.cell(made, one.method, one.task, one.learning_rate, one.seed).hash10

    moved = dataclasses.replace(begin, checkpoint=Checkpoint(2, tmp_path / "moved"))
    other = dataclasses.replace(begin, weights="1" * 64)
    assert key(2, begin) == key(2, moved), "where the weights lie moves no number"
    assert len({key(1, Begin()), key(2, Begin()), key(2, begin), key(2, other)}) == 4
    made = chains.settings(suite, one, 2, begin)
    assert made.begin_folder == str(tmp_path / "elsewhere" / "step_000002" / "model")
    assert (made.rounds, made.chained, made.name) == (1, False, "round_2")


def test_round_one_is_the_cell_that_the_same_context_gives_without_rounds(toy):
    """So its number may stand beside ordinary ones."""
    suite = toy(rounds=3)
    (one,) = chains.chains(suite)
    first = chains.settings(suite, one, 1, Begin())
    cell = grid.cell(first, one.method, one.task, one.learning_rate, one.seed)
    plain = grid.cell(toy(), one.method, one.task, one.learning_rate, one.seed)
    assert cell.config == plain.config


# --- a round has noise and prompts of its own -------------------------------------------------


def test_a_round_goes_on_in_the_epochs_where_the_last_one_ended(toy):
    suite = toy(max_steps=2)
    later = suite.model_copy(update={"round": 2})
    straight = [writers.schedule(Toy(), suite, 0, step) for step in range(4)]
    assert [writers.schedule(Toy(), later, 0, step) for step in range(2)] == straight[2:]


def test_attempts_of_two_rounds_and_of_two_chains_are_drawn_apart():
    class Many(Toy):
        def examples(self, split):
            return [Example({"word": f"{split}{i}"}) for i in range(50)]

    def drawn(*stream):
        return tuple(example.id for example in drawn_examples(Many(), 0, 10, stream))

    streams = [("chain", 0, "round", 1), ("chain", 0, "round", 2), ("chain", 1, "round", 1)]
    assert len({drawn(), *(drawn(*stream) for stream in streams)}) == 4
    assert drawn(*streams[0]) == drawn(*streams[0])
    assert Recipe().stream == ()


# --- replay -----------------------------------------------------------------------------------


def attempt(example, *boards, outcome="wrong"):
    reply = Reply((5, 2), (-0.1, -0.1), "x", "stop")
    turns = tuple(
        TurnRecord(({"role": "user", "content": board},), (1, 2), reply) for board in boards
    )
    return Trajectory(example.id, turns, Grade(0.0, "x", "lost"), outcome, "you lost")


def no_episode(split, example):
    raise AssertionError(f"an episode of {split} was opened")


def states():
    example = Example({"word": "train0"}, reference="r", hint="h")
    return states_of(
        [
            ("s000/0", attempt(example, "first", "second"), example),
            ("s000/1", attempt(example, "first"), example),
            ("s000/2", attempt(example, "broken", outcome="failed"), example),
        ]
    )


def test_every_turn_of_every_attempt_that_did_not_fail_is_a_state():
    made = states()
    assert [state.content["messages"][0]["content"] for state in made] == [
        "first", "second", "first",
    ]  # fmt: skip
    assert len({state.id for state in made}) == 3, "visited twice, it is there twice"
    assert {(state.reference, state.hint) for state in made} == {("r", "h")}


def test_a_state_takes_one_reply_without_the_environment_and_is_not_graded():
    task = Replay(Toy(no_episode), states())
    state = task.examples("train")[1]
    episode = task.open(state, 0)
    assert episode.messages == [{"role": "user", "content": "second"}]
    assert episode.step("anything").done
    assert (episode.grade().score, episode.feedback(), task.train_graded) == (None, "", False)
    with pytest.raises(AssertionError, match="an episode of dev was opened"):
        task.open(task.examples("dev")[0], 0)


def test_a_replay_is_another_cell_and_the_same_protocol(toy, tiny_loaded):
    task, suite = Toy(), toy()
    replay = Replay(task, states())
    fewer = Replay(task, states()[:2])
    own, with_states = grid.describe_task(task), grid.describe_task(replay)
    assert with_states["training"]["states"] == 3
    assert {k: v for k, v in with_states.items() if k != "training"} == own
    assert grid.describe_task(fewer)["training"] != with_states["training"]
    test = task.examples("test")
    assert replay.examples("test") == test and replay.examples("dev") == task.examples("dev")
    assert protocol(replay, "test", test, suite, 1, tiny_loaded) == protocol(
        task, "test", test, suite, 1, tiny_loaded
    )


def test_attempts_without_a_state_cannot_be_replayed():
    with pytest.raises(DataError, match="use consolidate = 'environment'"):
        Replay(Toy(), [])


# --- the folder -------------------------------------------------------------------------------


def test_a_chain_that_failed_before_its_cell_says_where_and_why(toy, tmp_path):
    suite = toy(rounds=2)
    (one,) = chains.chains(suite)
    folder = one.folder(suite)
    folder.describe(one.config)
    (tmp_path / "toy" / "suite.json").write_text('{"rounds": 2}')
    folder.fail(1, "nothing was learnt", "traceback")
    rows = table.read(tmp_path / "toy").to_dict("records")
    assert [row["missing"] for row in rows] == ["failed: nothing was learnt", "not run"]
    assert "failed: nothing was learnt" in table.as_text(table.read(tmp_path / "toy"))
    folder.forget_failure()
    assert folder.failure() is None and folder.config() == ChainDir(folder.path).config()


def test_a_suite_without_chains_has_an_empty_table(tmp_path):
    assert table.read(tmp_path).empty
    assert table.as_text(table.read(tmp_path)) == "no round has run yet"
    assert table.sections(table.read(tmp_path)) == []


def test_a_chosen_checkpoint_that_is_gone_is_missed(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    (run / "DONE").write_text('{"summary": {"chosen_step": 4}}')
    with pytest.raises(StoreError, match=r"chosen checkpoint \(step 4\) is gone"):
        chains.after(run, Begin())
    (run / "DONE").write_text('{"summary": {"chosen_step": 0}}')
    before = Begin(Checkpoint(2, tmp_path), "0" * 64)
    assert chains.after(run, before) is before, "nothing was learnt, so nothing moves"
