"""Rounds: what enters an identity, how states are replayed, what a chain's folder tells."""

import dataclasses
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
from scripted import reader
from toy import Toy, toy_suite

from opcd_bench.config.experience import Extraction
from opcd_bench.config.suite import make_suite
from opcd_bench.distillation import sampling
from opcd_bench.distillation.method import Teacher
from opcd_bench.envs import leakage
from opcd_bench.envs.task import Context, Contexts, Example, Grade, Task, describe_task
from opcd_bench.errors import (
    ConfigError,
    DataError,
    EngineDied,
    FolderBusy,
    StoreError,
    UnknownName,
    WorkerDied,
)
from opcd_bench.evaluation.task_scores import further_sets, protocol
from opcd_bench.experience.dev_scores import PLAIN, DevScores
from opcd_bench.experience.recipe import Recipe
from opcd_bench.experience.replay import Replay, states_of
from opcd_bench.experience.solve import attempts, drawn_examples, limited
from opcd_bench.progress import QuietReporter
from opcd_bench.report.tables import rounds as table
from opcd_bench.rollout.engine import Reply, Sampling
from opcd_bench.rollout.trajectory import Skipped, Trajectory, TurnRecord
from opcd_bench.runner import grid, hands, perform, registry
from opcd_bench.runner.cluster import executor
from opcd_bench.runner.cluster import local as pool
from opcd_bench.runner.cluster.jobs import Outcome
from opcd_bench.runner.plan import plan
from opcd_bench.runner.refusals import refuse_other_chains, refuse_other_judgement
from opcd_bench.runner.rounds import chain as chains
from opcd_bench.runner.rounds import rounds
from opcd_bench.runner.rounds.chain import Begin
from opcd_bench.store.chain_dir import ChainDir
from opcd_bench.store.checkpoints import Checkpoint
from opcd_bench.store.suite_dir import SuiteDir

LEAST = {"methods": ["opcd"], "tasks": ["rule_math"]}
CLAIM = {"text": "It works.", "first": "opcd on rule_math"}


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
        ({"rounds": 2, "keep_checkpoints": "none"}, "nothing to start from"),
        (
            {"rounds": 2, "headline_learning_rate": "dev", "sweep_seeds": 1},
            "every learning rate is a chain of its own",
        ),
        ({"rounds": 2, "claims": [CLAIM]}, "no rounds decide them; leave claims out (--set"),
        ({"experience": {}, "claims": [CLAIM]}, "leave out rounds and [experience]"),
        ({"rounds": 0}, "must be 1 or more"),
        ({"begin_weights": "ab"}, "together, or neither"),
        ({"begin_folder": "model"}, "together, or neither"),
        (
            {"experience": {"select": "worst"}},
            "experience.select: this value is not allowed. Which context is used: the best on dev",
        ),
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


def test_a_teacher_of_every_chain_is_adapted_at_the_rate_of_the_suite(toy):
    """It was adapted at the chain's own rate, beside an identity that named the suite's."""
    suite = toy(rounds=2, learning_rate=(1e-4, 1e-3))
    method = dataclasses.replace(
        registry.method("opcd"), name="taught", teacher=Teacher(weights="adapted", by="grpo")
    )
    for one in chains.chains(suite):
        one = dataclasses.replace(one, method=method)
        first = chains.settings(suite, one, 1, Begin())
        cell = grid.cell(first, method, one.task, one.learning_rate, one.seed)
        assert cell.config["adapted"]["learning_rate"] == 1e-4
        plain = grid.cell(suite, method, one.task, one.learning_rate, one.seed)
        assert cell.config["adapted"] == plain.config["adapted"]


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
    straight = [sampling.schedule(Toy(), suite, 0, step) for step in range(4)]
    assert [sampling.schedule(Toy(), later, 0, step) for step in range(2)] == straight[2:]


def test_attempts_of_two_rounds_and_of_two_chains_are_drawn_apart():
    class Many(Toy):
        def examples(self, split):
            return [Example({"word": f"{split}{i}"}) for i in range(50)]

    def drawn(*stream):
        return tuple(example.id for example in drawn_examples(Many(), 0, 10, stream))

    streams = [("chain", 0, "round", 1), ("chain", 0, "round", 2), ("chain", 1, "round", 1)]
    assert len({drawn(), *(drawn(*stream) for stream in streams)}) == 4
    assert drawn(*streams[0]) == drawn(*streams[0])
    recipe = Recipe.of(Extraction(), solving=SHORT, reflecting=SHORT, batch=1)
    assert recipe.stream == ()


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


def test_a_replay_keeps_all_that_its_task_says_of_itself_but_that_replies_are_graded():
    task = Toy()
    task.name, task.version, task.summary, task.max_turns = "played", 7, "is played", 3
    task.data_dir, task.source_hash, task.leak_patterns = "data", "0a1b", (r"\bcode\b",)
    task.given = Contexts((Context("a code"),))
    replay = Replay(task, states())
    own = {name: getattr(replay, name) for name in Task.__annotations__}
    assert own == {name: getattr(task, name) for name in Task.__annotations__} | {
        "train_graded": False
    }
    assert leakage.Told.of(replay) == leakage.Told.of(task)


def test_a_replay_is_another_cell_and_the_same_protocol(toy, tiny_loaded):
    task, suite = Toy(), toy()
    replay = Replay(task, states())
    fewer = Replay(task, states()[:2])
    own, with_states = describe_task(task), describe_task(replay)
    assert with_states["training"]["states"] == 3
    assert {k: v for k, v in with_states.items() if k != "training"} == own
    assert describe_task(fewer)["training"] != with_states["training"]
    test = task.examples("test")
    assert replay.examples("test") == test and replay.examples("dev") == task.examples("dev")
    assert protocol(replay, "test", test, suite, 1, tiny_loaded) == protocol(
        task, "test", test, suite, 1, tiny_loaded
    )


@pytest.mark.parametrize(
    "asked", [{"train_items": 3}, {"task_settings": {"toy": {"train_items": 3}}}]
)
def test_states_are_not_scored_as_training_prompts_and_a_warning_says_so(toy, monkeypatch, asked):
    """They have no grade, and what a task says of its train examples it cannot say of them."""
    replayed, environment = (
        toy(rounds=2, consolidate=how, **asked) for how in ("replay", "environment")
    )
    names = []
    for suite in (replayed, environment):
        (one,) = chains.chains(suite)
        own = chains.settings(suite, one, 1, Begin()).for_task("toy")
        names.append([probe.name for probe in further_sets(Toy(), own)])
    assert names == [[], ["training_prompts"]]
    monkeypatch.setattr(rounds, "run_chain", lambda one, *_: Outcome(one.name, None))
    console = QuietReporter()
    rounds.run(replayed, console=console)
    assert any(said.startswith("toy: train_items scores nothing") for said in console.warnings)


def test_attempts_without_a_state_cannot_be_replayed():
    with pytest.raises(DataError, match="use consolidate = 'environment'"):
        Replay(Toy(), [])


# --- prompts that are too long -----------------------------------------------------------------

SHORT = Sampling(temperature=0.0, max_completion_length=8)


class Long(Toy):
    """Every second train example, and the second of dev, are long."""

    def examples(self, split):
        return [
            Example({"word": one.content["word"] + "x" * 400 * (place % 2)})
            for place, one in enumerate(super().examples(split))
        ]


def test_what_is_too_long_to_be_trained_on_is_skipped_where_it_is_attempted(tiny_loaded):
    task, read = Long(), reader(tiny_loaded, lambda prompt, seed: "a")

    def played(most):
        drawn = [(0, task.examples("train"))]
        return attempts(task, drawn, read.loaded, read.engine, limited(SHORT, most))

    assert [isinstance(one, Skipped) for one in played(100)] == [False, True] * 3
    assert not any(isinstance(one, Skipped) for one in played(None))


def test_a_context_is_scored_on_the_prompts_that_an_evaluation_reads(tiny_loaded, tmp_path):
    read = reader(tiny_loaded, lambda prompt, seed: "a")

    def skipped(most):
        scores = DevScores(Long(), {}, read, limited(SHORT, most), 0, tmp_path)
        scores.score([PLAIN], 4)
        return [row["outcome"] == "skipped" for row in scores.rows[PLAIN]]

    assert (skipped(None), skipped(100)) == ([False] * 4, [False, True] * 2)


def test_a_limit_is_part_of_how_attempts_were_made_and_none_changes_nothing():
    assert limited(SHORT, None) is SHORT
    made = dataclasses.asdict(limited(SHORT, 100))
    assert made == {**dataclasses.asdict(SHORT), "max_prompt_length": 100}


# --- chains that cannot stand in one table -----------------------------------------------------


def stored(suite, *, counts=True, **changed):
    """The folder of the suite's first chain, begun, and with a round that is sealed if it counts.

    ``changed`` is put over its settings.
    """
    one = chains.chains(suite)[0]
    one = dataclasses.replace(one, config={**one.config, **changed})
    folder = one.folder(suite)
    folder.describe(one.config)
    if counts:
        run = folder.path / "round_1" / "cell"
        run.mkdir(parents=True)
        (run / "config.json").write_text("{}")
        (run / "DONE").write_text("{}")
        (folder.path / "round_1" / "suite.json").write_text("{}")
    said = {"methods": suite.methods, "tasks": suite.tasks, "rounds": suite.rounds}
    (folder.path.parents[1] / "suite.json").write_text(json.dumps(said))
    return folder


def test_chains_with_other_settings_are_refused_before_any_work(toy, tmp_path):
    stored(toy(rounds=2, max_steps=2, seeds=3))
    before = (tmp_path / "toy" / "suite.json").read_bytes()
    with pytest.raises(StoreError, match=r"suite.max_steps: 2 -> 4\nGive another --name") as caught:
        rounds.run(toy(rounds=2, max_steps=4), console=QuietReporter())
    assert "a finished chain of toy" in str(caught.value)
    assert (tmp_path / "toy" / "suite.json").read_bytes() == before
    for values in ({"consolidate": "replay"}, {"experience": {"items": 3}}):
        with pytest.raises(StoreError, match=f"{next(iter(values))}.*: .* -> "):
            rounds.run(toy(rounds=2, max_steps=2, **values), console=QuietReporter())


def test_by_what_finished_rounds_are_judged_is_refused_before_any_work(toy, tmp_path):
    suite = toy(rounds=2)
    folder = SuiteDir(stored(suite).path.parents[1])
    folder.merge({"equivalence_margin": 0.02})
    before = (tmp_path / "toy" / "suite.json").read_bytes()
    with pytest.raises(StoreError, match=r"equivalence_margin = 0\.02"):
        rounds.run(suite, console=QuietReporter())
    assert (tmp_path / "toy" / "suite.json").read_bytes() == before


def test_rounds_of_which_none_is_done_may_be_judged_otherwise(toy):
    suite = toy(rounds=2)
    folder = SuiteDir(stored(suite, counts=False).path.parents[1])
    folder.merge({"equivalence_margin": 0.02})
    refuse_other_judgement(suite, folder)


def test_claims_that_rounds_were_once_run_with_may_go_for_none_was_tested(toy, tmp_path):
    suite = toy(rounds=2)
    folder = SuiteDir(stored(suite).path.parents[1])
    folder.merge({"claims": [CLAIM]})
    refuse_other_judgement(suite, folder)


def test_a_chain_says_what_a_grid_does_of_its_numbers(toy, monkeypatch):
    """Where the prompts are only for the built-in model, or an adapter is rounded away."""
    monkeypatch.setattr(Toy, "for_built_in", True)
    monkeypatch.setattr(rounds, "run_chain", lambda one, *_: Outcome(one.name, None))
    console = QuietReporter()
    suite = toy(rounds=2, bf16=True, lora_rank=4, engine="vllm", dtype="bfloat16")
    rounds.run(suite, console=console)
    rounding, form = console.warnings
    assert "LoRA" in rounding or "adapter" in rounding
    assert form.startswith("toy: the prompts do not say in which form to answer")


def refuse(suite, tmp_path):
    """What a run of the suite refuses before any work."""
    refuse_other_chains([one.config for one in chains.chains(suite)], SuiteDir(tmp_path / "toy"))


def test_more_rounds_seeds_rates_and_methods_may_join_a_folder(toy, tmp_path):
    stored(toy(rounds=2))
    more = toy(rounds=5, seeds=2, learning_rate=[1e-4], methods=["opcd_tail", "opcd_full"])
    refuse(more, tmp_path)


def test_a_method_that_was_changed_is_another_one(toy, tmp_path):
    suite = toy(rounds=2)
    described = chains.chains(suite)[0].config["method"]
    stored(suite, method={**described, "loss": "another"})
    with pytest.raises(StoreError, match=r'method.loss: "another" -> \(absent\)'):
        refuse(suite, tmp_path)
    stored(suite)
    with pytest.raises(StoreError, match=r"method\.loss"):
        table.read(tmp_path / "toy")


def test_chains_of_different_settings_are_never_averaged(toy, tmp_path):
    for steps in (2, 4):
        stored(toy(rounds=2, max_steps=steps))
    with pytest.raises(StoreError, match=r"(?s)suite.max_steps: .*rm -r.*toy--opcd_full"):
        table.read(tmp_path / "toy")


def test_what_ended_without_a_number_hinders_nothing_that_has_other_settings(
    toy, tmp_path, monkeypatch
):
    """Settings are changed because a chain failed; its folder stays."""
    old = stored(toy(rounds=1, experience={}, max_steps=2), counts=False)
    old.fail(1, "too few steps", "traceback")
    new = toy(rounds=1, experience={}, max_steps=4)
    refuse(new, tmp_path)
    (row,) = table.read(tmp_path / "toy").to_dict("records")
    assert row["missing"] == "failed: too few steps"
    stored(new)
    monkeypatch.setattr(table, "_done", lambda chain: iter(()))
    monkeypatch.setattr(table, "_failure", lambda chain: chain.failure() and (1, "too few steps"))
    (row,) = table.read(tmp_path / "toy").to_dict("records")
    assert row["missing"] == "not run"


# --- what a run refuses, and how it ends -------------------------------------------------------


def test_a_run_of_rounds_checks_what_any_run_does_before_it_writes(toy, tmp_path):
    class Overlapping(Toy):
        def examples(self, split):
            return super().examples("train")

    with pytest.raises(UnknownName, match="ifevall"):
        rounds.run(toy(rounds=2, retention=["ifevall"]), console=QuietReporter())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "task", lambda *_, **__: Overlapping())
        with pytest.raises(DataError, match="splits must be disjoint"):
            rounds.run(toy(rounds=2), console=QuietReporter())
    assert not (tmp_path / "toy").exists()


def test_where_a_context_goes_may_be_said_before_there_is_one(toy):
    (plain,) = chains.chains(toy(rounds=2))
    (placed,) = chains.chains(toy(rounds=2, context_placement="user"))
    (own,) = chains.chains(toy(rounds=2, task_settings={"toy": {"context_placement": "user"}}))
    assert plain.name != placed.name == own.name


@pytest.fixture
def side_by_side(monkeypatch):
    """Cells and chains at a time, in threads in place of processes."""
    monkeypatch.setattr(pool, "ProcessPoolExecutor", ThreadPoolExecutor)
    monkeypatch.setattr(pool, "_serve_parent", lambda: None)
    monkeypatch.setattr(hands, "load", lambda suite: None)
    monkeypatch.setattr(perform, "shared_waves", lambda *_: ())


def chains_of_eight(monkeypatch, toy, tmp_path, work):
    monkeypatch.setattr(rounds, "run_chain", lambda one, *_: work(one.seed))
    rounds.run(toy(rounds=2, seeds=8, jobs=2), console=QuietReporter())


def cells_of_eight(monkeypatch, toy, tmp_path, work):
    suite = toy(seeds=8, jobs=2)
    cells = grid.cells(suite, *registry.plugins_of(suite))
    monkeypatch.setattr(hands, "do", lambda job, _: work(job.what.seed))
    planned, folder = plan(suite), SuiteDir(tmp_path / "toy")
    with pool.LocalPool(suite, 2, hands.WORK) as workers:
        hands.Spread(planned, folder, workers, QuietReporter()).do_all(cells)


@pytest.mark.parametrize("run", [chains_of_eight, cells_of_eight])
def test_an_engine_that_dies_keeps_nobody_waiting_for_what_has_not_begun(
    run, side_by_side, monkeypatch, toy, tmp_path
):
    begun, first = [], threading.Event()

    def work(seed):
        if seed == 0:
            begun.append(seed)
            first.set()
            raise EngineDied("no engine answers")
        first.wait(60)  # two begin together: whichever thread is quicker, the first stands first
        begun.append(seed)
        time.sleep(0.3)
        return Outcome(str(seed), None)

    with pytest.raises(EngineDied):
        run(monkeypatch, toy, tmp_path, work)
    assert begun[0] == 0 and len(begun) <= 3, "the others would find no engine either"


@pytest.mark.parametrize("run", [chains_of_eight, cells_of_eight])
def test_a_worker_that_was_killed_is_told_in_the_same_words(
    run, side_by_side, monkeypatch, toy, tmp_path
):
    def work(seed):
        raise BrokenProcessPool

    with pytest.raises(WorkerDied, match="Nothing is lost: type the same command again"):
        run(monkeypatch, toy, tmp_path, work)


@pytest.mark.parametrize("run", [chains_of_eight, cells_of_eight])
def test_a_folder_that_another_run_is_writing_has_its_turn_again(
    run, side_by_side, monkeypatch, toy, tmp_path
):
    monkeypatch.setattr(executor, "PAUSE", 0.01)
    begun = []

    def work(seed):
        begun.append(seed)
        if seed == 0 and begun.count(0) < 3:
            raise FolderBusy("another process is writing it")
        return Outcome(str(seed), None)

    run(monkeypatch, toy, tmp_path, work)
    assert sorted(begun) == [0, 0, *range(8)]


@pytest.mark.parametrize("run", [chains_of_eight, cells_of_eight])
def test_all_that_is_to_be_done_is_done_once(run, side_by_side, monkeypatch, toy, tmp_path):
    done = []

    def work(seed):
        done.append(seed)
        return Outcome(str(seed), None)

    run(monkeypatch, toy, tmp_path, work)
    assert sorted(done) == list(range(8))


# --- the folder -------------------------------------------------------------------------------


def test_a_chain_that_failed_before_its_cell_says_where_and_why(toy, tmp_path):
    suite = toy(rounds=2)
    (one,) = chains.chains(suite)
    SuiteDir(tmp_path / "toy").merge({"methods": [], "tasks": [], "rounds": 2})
    folder = one.folder(suite)
    folder.describe(one.config)
    folder.fail(1, "nothing was learnt", "traceback")
    rows = table.read(tmp_path / "toy").to_dict("records")
    assert [row["missing"] for row in rows] == ["failed: nothing was learnt", "not run"]
    assert "failed: nothing was learnt" in table.as_text(table.read(tmp_path / "toy"))
    folder.forget_failure()
    assert folder.failure() is None and folder.config() == ChainDir(folder.path).config()


def test_what_the_suite_asks_for_and_nobody_began_is_not_run(toy, tmp_path):
    suite = toy(rounds=2, seeds=3, methods=["opcd_full", "opcd_tail"], learning_rate=[1e-3, 1e-4],
                headline_learning_rate=1e-3, sweep_seeds=1)  # fmt: skip
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "suite.json").write_text(json.dumps(suite.model_dump(mode="json")))
    rows = table.read(folder).to_dict("records")
    assert [(row["method"], row["learning_rate"], row["round"]) for row in rows] == [
        (method, rate, number)
        for method in suite.methods for rate in (1e-4, 1e-3) for number in (1, 2)
    ]  # fmt: skip
    told = {(row["learning_rate"], row["missing"]) for row in rows}
    assert told == {(1e-4, "not run"), (1e-3, "3 of 3 seeds missing (not run)")}
    assert "not run" in table.as_text(table.read(folder))
    (folder / "suite.json").write_text(json.dumps(toy().model_dump(mode="json")))
    assert table.read(folder).empty, "its cells are no chains"


def test_a_suite_without_chains_has_an_empty_table(tmp_path):
    assert table.read(tmp_path).empty
    assert table.as_text(table.read(tmp_path)) == "no round has run yet"
    assert table.sections(table.read(tmp_path)) == []


def test_a_chosen_checkpoint_that_is_gone_is_missed(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    (run / "DONE").write_text('{"summary": {"chosen_step": 4}}')
    with pytest.raises(StoreError, match=r"chosen checkpoint \(step 4\) is missing"):
        chains.after(run, Begin())
    (run / "DONE").write_text('{"summary": {"chosen_step": 0}}')
    before = Begin(Checkpoint(2, tmp_path), "0" * 64)
    assert chains.after(run, before) is before, "nothing was learnt, so nothing moves"
