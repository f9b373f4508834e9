"""Stored responses that no run of a suite could be trained on are refused before it begins."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures import tiny_tokenizer
from toy import Toy, toy_suite

from opcd_bench.config.experience import Experience
from opcd_bench.distillation import stored_replies
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.method import STUDENT, Method, Stage, Teacher, stored
from opcd_bench.distillation.replies import ReplySampler
from opcd_bench.distillation.sampling import schedule
from opcd_bench.distillation.stored_replies import row_of
from opcd_bench.envs.task import Grade
from opcd_bench.envs.told_task import ToldTask
from opcd_bench.errors import ConfigError, DataError
from opcd_bench.progress import QuietReporter
from opcd_bench.rollout.engine import Reply
from opcd_bench.rollout.trajectory import Trajectory, TurnRecord
from opcd_bench.runner import grid, perform, preflight, registry
from opcd_bench.runner.plan import Plan
from opcd_bench.runner.resources import Resources
from opcd_bench.runner.stored_responses import refuse_unfit
from opcd_bench.store import jsonl
from opcd_bench.store.suite_dir import SuiteDir

TRAIN = Toy().examples("train")


def written(example, task=None, text="abc"):
    ids = (*tiny_tokenizer()(text, add_special_tokens=False)["input_ids"], 2)
    messages = tuple((task or Toy()).open(example, 0).messages)
    turn = TurnRecord(messages, (1,), Reply(ids, (-0.5,) * len(ids), text, "stop"))
    return Trajectory(example.id, (turn,), Grade(1.0, "a", "why"), "correct", "")


@pytest.fixture
def made(tmp_path):
    """A method that reads the responses given, or as a first stage does."""

    def call(*rows, name="mine", stage=None, teacher=None):
        file = tmp_path / f"{name}.jsonl"
        file.write_bytes(jsonl.joined(map(row_of, rows)))
        first = None if stage is None else Stage(stage, stored(str(file)), named("nll"))
        writer = STUDENT if stage or teacher else stored(str(file))
        return Method(
            name, "A test's.", "a test", writer, named("rkl_full"), teacher or Teacher(),
            begins=first,
        )  # fmt: skip

    return call


@pytest.fixture
def suite(tiny_model_folder, tmp_path):
    return toy_suite(tiny_model_folder, tmp_path / "results")


def test_every_seed_is_looked_at_and_only_the_steps_of_the_stage_that_reads(made, suite):
    own = suite.model_copy(update={"max_steps": 4, "seeds": 2})
    steps = range(2)
    needed = {seed: [s.example for n in steps for s in schedule(Toy(), own, seed, n)]
              for seed in range(2)}  # fmt: skip
    method = made(*map(written, needed[0]), stage=0.5)
    refuse_unfit(own.model_copy(update={"seeds": 1}), [method], [Toy()])
    lacking = [one for one in needed[1] if one not in needed[0]]
    with pytest.raises(
        DataError, match=rf"^method 'mine': .* {len(lacking)} of the 4 train .* that seed 1 trains"
    ):
        refuse_unfit(own, [method], [Toy()])
    refuse_unfit(own, [made(*map(written, needed[0] + needed[1]), stage=0.5)], [Toy()])


def test_rounds_ask_for_further_examples_and_replays_for_none_that_a_file_could_have(made, suite):
    own = suite.model_copy(update={"max_steps": 1, "rounds": 2, "experience": Experience()})
    first, second = ([slot.example for slot in schedule(Toy(), own, 0, n)] for n in range(2))
    refuse_unfit(own, [made(*map(written, first + second))], [Toy()])
    with pytest.raises(DataError, match=rf"2 of the 2 train examples .* {second[0].id}"):
        refuse_unfit(own, [made(*map(written, first))], [Toy()])
    replayed = own.model_copy(update={"consolidate": "replay"})
    with pytest.raises(ConfigError, match="consolidate=environment"):
        refuse_unfit(replayed, [made(*map(written, TRAIN))], [Toy()])


def test_what_adapts_a_teacher_is_looked_at_too_with_the_prompts_that_it_reads(
    made, suite, monkeypatch
):
    told = [written(one, ToldTask(Toy(), 0)) for one in TRAIN]
    for by_reads, fits, unfit in (
        ("nothing", [*map(written, TRAIN)], told),
        ("context", told, [*map(written, TRAIN)]),
    ):
        teacher = Teacher(weights="adapted", by="mine", by_reads=by_reads)
        learner = made(name="learner", teacher=teacher)
        adapts = made(*fits)
        monkeypatch.setattr(registry, "method", lambda *_, by=adapts: by)
        refuse_unfit(suite, [learner], [Toy()])
        made(*unfit)  # in the place of the other
        with pytest.raises(DataError, match=r"method 'learner': .* is to another prompt"):
            refuse_unfit(suite, [learner], [Toy()])


def test_a_plan_refuses_what_needs_no_model_and_a_run_what_needs_one(made, suite):
    lacking, fits = made(*map(written, TRAIN[1:])), [*map(written, TRAIN)]
    tasks = {"toy": Toy()}
    with pytest.raises(DataError, match="1 of the 6 train examples"):
        preflight.refuse_early(suite, {"mine": lacking}, tasks, planned=True)
    turn = fits[0].turns[0]
    turn = dataclasses.replace(turn, reply=dataclasses.replace(turn.reply, text="abd"))
    other = made(dataclasses.replace(fits[0], turns=(turn,)), *fits[1:])
    preflight.refuse_early(suite, {"mine": other}, tasks, planned=True)
    suite_dir = SuiteDir(suite_folder := Path(suite.output_dir) / suite.name)
    resources = Resources(suite, suite_dir, QuietReporter())
    with pytest.raises(DataError, match=r"mine\.jsonl, line 1: its text says 'abd' where"):
        perform.prepare(Plan(suite, {"mine": other}, tasks), resources, QuietReporter())
    assert not suite_folder.exists(), "nothing was written"


@pytest.fixture
def counted(monkeypatch):
    """How often files are read, and how many responses are decoded."""
    calls = {"read_stored": 0, "reply_text": 0}

    def count(name):
        original = getattr(stored_replies, name)

        def call(*given):
            calls[name] += 1
            return original(*given)

        monkeypatch.setattr(stored_replies, name, call)

    for name in calls:
        count(name)
    return calls


def test_a_file_is_read_and_decoded_once_by_a_process(made, suite, counted):
    """A plan, a run's beginning, and each cell."""
    own = suite.model_copy(update={"seeds": 2, "methods": ("mine",), "max_steps": 2})
    method, tasks = made(*map(written, TRAIN)), {"toy": Toy()}
    planned = Plan(own, {"mine": method}, tasks)
    preflight.refuse_early(own, planned.methods, tasks, planned=False)
    resources = Resources(own, SuiteDir(Path(own.output_dir) / own.name), QuietReporter())
    perform.prepare(planned, resources, QuietReporter())
    cells = grid.cells(own, planned.methods, tasks)
    assert len(cells) == 2
    for cell in cells:
        outcome = perform.run_cell(cell, planned, resources, QuietReporter())
        assert outcome.problem is None, outcome.problem
    assert counted == {"read_stored": 1, "reply_text": len(TRAIN)}


def test_a_changed_file_another_task_or_another_setting_is_read_again(made, suite, counted):
    task, method = Toy(), made(*map(written, TRAIN))
    for _ in range(2):
        refuse_unfit(suite, [method], [task])
    assert counted["read_stored"] == 1
    again = [written(one, text="abd") for one in TRAIN]
    made(*again)  # of the same length
    refuse_unfit(suite, [method], [task])
    assert counted["read_stored"] == 2
    held = stored_replies.held(str(method.writer.path), task, suite)
    given = held.of_slots(schedule(task, suite, 0, 0))
    assert {one.turns[0].reply.text for one in given} == {"abd"}
    refuse_unfit(suite, [method], [Toy()])
    assert counted["read_stored"] == 3
    refuse_unfit(suite.model_copy(update={"overlong": "skip"}), [method], [task])
    assert counted["read_stored"] == 4


def test_a_file_that_cannot_be_read_is_refused_as_bad_input(suite, tmp_path):
    (tmp_path / "mine" / "x.jsonl").mkdir(parents=True)
    folder = stored(str(tmp_path / "mine"))
    method = Method("mine", "A test's.", "a test", folder, named("nll"), Teacher())
    with pytest.raises(DataError, match=r"^method 'mine': stored responses .*x\.jsonl: Is a dir"):
        refuse_unfit(suite, [method], [Toy()])


def test_a_stage_that_a_resumed_run_has_behind_it_reads_no_file(made, suite, counted):
    method = made(*map(written, TRAIN))
    sampler = ReplySampler(method, Toy(), suite, 0, None, None, None, range(2))
    assert counted["read_stored"] == 0
    assert sampler.method is method


def test_a_suite_without_stored_responses_is_looked_through_without_torch():
    code = (
        "import sys\n"
        "from opcd_bench.runner import registry, stored_responses\n"
        "from opcd_bench.config.suite import Suite\n"
        "suite = Suite(name='s', methods=['opcd'], tasks=['rule_math'])\n"
        "methods, tasks = registry.plugins_of(suite)\n"
        "stored_responses.refuse_unfit(suite, methods.values(), list(tasks.values()))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
