"""Whole cells: kill -9 anywhere changes no byte, dev chooses, test is touched once and last."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fixtures import write_tiny_model
from toy import Toy, toy_suite, truth

from opcd_bench.config.suite import Suite
from opcd_bench.distillation import checkpoint, replies, trainer
from opcd_bench.distillation.method import Teacher, stored
from opcd_bench.errors import CellFailed, Diverged, NonFiniteGradients, StoreError
from opcd_bench.progress import QuietReporter
from opcd_bench.report.analysis.comparable import assert_comparable
from opcd_bench.report.analysis.load import load
from opcd_bench.report.analysis.probes import probes
from opcd_bench.report.tables import plain_text
from opcd_bench.report.tables.stored import text_of
from opcd_bench.runner import cell as cell_runs
from opcd_bench.runner import grid, perform, registry, suite_runner
from opcd_bench.runner.cell import CellRun, choose_step
from opcd_bench.runner.cell_scores import CellScores
from opcd_bench.runner.perform import run_cell
from opcd_bench.runner.plan import Plan
from opcd_bench.runner.references import References
from opcd_bench.runner.resources import Resources
from opcd_bench.runner.time_shares import time_shares
from opcd_bench.runner.training import Training
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SharedDir, SuiteDir
from opcd_bench.store.verification import verify


def run_toy(suite: Suite, task: Toy | None = None) -> Path:
    """All cells of a toy suite in this process; the folder of the first."""
    methods = {name: registry.method(name) for name in suite.methods}
    planned = Plan(suite, methods, {"toy": task or Toy()})
    suite_dir = SuiteDir(Path(suite.output_dir) / suite.name)
    bench = Resources(suite, suite_dir, QuietReporter())
    suite_dir.merge(suite.model_dump(mode="json"))
    cells = grid.cells(suite, methods, planned.tasks)
    for cell in cells:
        run_cell(cell, planned, bench, QuietReporter())
    return suite_dir.run(cells[0].name)


def in_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a forked process; its wait status. Forking saves the imports."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_retention_measured_on_the_way_to_the_chosen_step_is_not_measured_again(
    tiny_model_folder, tmp_path, monkeypatch
):
    """The same samples, scores and rows as of a run that measures it only at the end."""
    counted: list[str] = []
    original = References.retained

    def retain(self, name, loaded, engine):
        counted.append("student" if loaded is not self.models.initial else "base")
        return original(self, name, loaded, engine)

    monkeypatch.setattr(References, "retained", retain)
    words = {"retention": ["ifeval_micro"], "retention_items": 3,
             "retention_max_completion_length": 8, "choose": "last"}  # fmt: skip
    often = run_toy(toy_suite(tiny_model_folder, tmp_path / "often", **words))
    assert counted == ["base", *["student"] * 3]
    once = run_toy(toy_suite(tiny_model_folder, tmp_path / "once", **words, eval_retention=False))
    assert counted[4:] == ["student", "base"]
    name = "samples/retention-ifeval_micro.jsonl.gz"
    assert (often / name).read_bytes() == (once / name).read_bytes()
    assert not list((often / "samples").glob("whole-*")), "kept until the end alone"
    phases = {row["phase"] for row in RunReader(often).read("timing") if "phase" in row}
    assert phases == {"dev", "retention", "test", "references"}
    told = time_shares([RunReader(often)])
    assert all(f"{phase} " in told for phase in (*phases, "sampling", "training"))


def test_a_cell_that_stays_at_the_base_takes_its_scores(tiny_model_folder, tmp_path, monkeypatch):
    """Nothing is played twice, and the samples are those of the base."""
    played: list[tuple[str, bool]] = []
    original = References.score

    def score(self, task, split, loaded, engine, seed, **more):
        played.append((split, loaded is self.models.initial))
        return original(self, task, split, loaded, engine, seed, **more)

    monkeypatch.setattr(References, "score", score)
    monkeypatch.setattr(cell_runs, "choose_step", lambda *_: cell_runs.Choice(0, "the base"))
    path = run_toy(toy_suite(tiny_model_folder, tmp_path))
    assert [where for where in played if where[0] == "test"] == [("test", True)] * 2, (
        "base, ceiling"
    )
    reader = RunReader(path)
    (base,) = [a for a in reader.summary["anchors"] if a["reading"] == "base"]
    shared = SuiteDir(path.parent).path / "shared" / base["shared"]
    assert reader.read("samples/test") == SharedDir(shared).get(base["name"])[1:]


def after_rows(monkeypatch, n: int, *, torn: bool) -> None:
    """Kill at the n-th training row: after it, or half-way through it."""
    original, count = RunDir.train, [0]

    def train(self: RunDir, row) -> None:
        count[0] += 1
        if count[0] == n:
            if torn:
                with (self.path / "train.jsonl").open("ab") as file:
                    file.write(b'{"divergence":0.12')
            else:
                original(self, row)
            kill_self()
        original(self, row)

    monkeypatch.setattr(RunDir, "train", train)


def in_checkpoint(monkeypatch, n: int) -> None:
    original, count = checkpoint.save, [0]

    def save(*arguments) -> None:
        original(*arguments)
        count[0] += 1
        if count[0] == n:
            kill_self()

    monkeypatch.setattr(checkpoint, "save", save)


def before(monkeypatch, owner, name: str) -> None:
    monkeypatch.setattr(owner, name, lambda *_, **__: kill_self())


KILLS = {
    "after the first row": lambda m: after_rows(m, 1, torn=False),
    "within the third row": lambda m: after_rows(m, 3, torn=True),
    "after the fourth row": lambda m: after_rows(m, 4, torn=False),
    "within the first checkpoint": lambda m: in_checkpoint(m, 1),
    "within the last checkpoint": lambda m: in_checkpoint(m, 3),
    "before test is scored": lambda m: before(m, CellRun, "_finish"),
    "before the seal": lambda m: before(m, RunDir, "seal"),
}


@pytest.fixture(scope="module")
def uninterrupted(tiny_model_folder, tmp_path_factory) -> dict[str, bytes]:
    path = run_toy(toy_suite(tiny_model_folder, tmp_path_factory.mktemp("whole")))
    assert RunReader(path).sealed, (path / "FAILED.json").read_text()
    return truth(path)


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_run_ends_byte_identical(
    moment, uninterrupted, tiny_model_folder, tmp_path, monkeypatch
):
    suite = toy_suite(tiny_model_folder, tmp_path)
    with monkeypatch.context() as patch:
        KILLS[moment](patch)
        status = in_child(lambda: run_toy(suite) and None)
    assert os.WIFSIGNALED(status), "the child was meant to be killed"
    path = run_toy(suite)
    assert truth(path) == uninterrupted
    assert not [p for p in verify(path) if p.damage]


def test_a_kill_at_every_second_row_in_turn_still_ends_byte_identical(
    uninterrupted, tiny_model_folder, tmp_path, monkeypatch
):
    suite = toy_suite(tiny_model_folder, tmp_path)
    for _ in range(3):
        with monkeypatch.context() as patch:
            after_rows(patch, 3, torn=False)
            in_child(lambda: run_toy(suite) and None)
    assert truth(run_toy(suite)) == uninterrupted


@pytest.mark.parametrize("choose", ["dev", 2])
def test_a_run_whose_chosen_checkpoint_was_damaged_goes_on_from_before_it(
    choose, tiny_model_folder, tmp_path, monkeypatch
):
    """As the message advises: the last checkpoint is whole, and what would be chosen is gone."""

    def dev(self):
        rows = self.run_dir.read("evals")
        return {row["step"]: float(row["step"] == 2) for row in rows if row["split"] == "dev"}

    monkeypatch.setattr(CellScores, "dev_by_step", dev)
    whole = truth(run_toy(toy_suite(tiny_model_folder, tmp_path / "whole", choose=choose)))
    suite = toy_suite(tiny_model_folder, tmp_path / "damaged", choose=choose)
    with monkeypatch.context() as patch:
        before(patch, CellRun, "_finish")
        in_child(lambda: run_toy(suite) and None)
    (folder,) = (tmp_path / "damaged").rglob("checkpoints")
    assert sorted(one.name for one in folder.iterdir()) == ["step_000002", "step_000006"]
    (folder / "step_000002" / "manifest.json").write_text("{}")
    run = RunReader(run_toy(suite))
    removal = f"from the beginning: type rm -r {folder / 'step_000002'} and then the same command"
    assert removal in run.failure()["reason"]
    shutil.rmtree(folder / "step_000002")
    path = run_toy(suite)
    assert RunReader(path).sealed and truth(path) == whole


def test_a_sealed_cell_is_not_run_again(tiny_model_folder, tmp_path, monkeypatch):
    suite = toy_suite(tiny_model_folder, tmp_path)
    path = run_toy(suite)
    before_bytes = {f: f.read_bytes() for f in path.rglob("*") if f.is_file()}
    monkeypatch.setattr(CellRun, "run", lambda self: pytest.fail("ran again"))
    run_toy(suite)
    assert {f: f.read_bytes() for f in path.rglob("*") if f.is_file()} == before_bytes


def test_test_is_played_only_after_the_choice_and_once(tiny_model_folder, tmp_path):
    suite = toy_suite(tiny_model_folder, tmp_path, choose="last")
    played: list[tuple[str, bool, str]] = []

    def opened(split, example) -> None:
        files = list(tmp_path.glob("toy/*/events.jsonl"))
        chosen = any('"chosen"' in file.read_text() for file in files)
        played.append((split, chosen, example.id))

    run_toy(suite, Toy(opened))
    tests = [(chosen, example) for split, chosen, example in played if split == "test"]
    assert all(chosen for chosen, _ in tests)
    assert any(split == "dev" and not chosen for split, chosen, _ in played)
    # once by the trained student, once each for the base and the ceiling
    assert len(tests) == 3 * len({example for _, example in tests})


def test_a_score_on_test_before_the_choice_is_refused(tiny_model_folder, tmp_path):
    suite = toy_suite(tiny_model_folder, tmp_path)
    bench = Resources(suite, SuiteDir(tmp_path / "toy"), QuietReporter())
    student = bench.models.fresh_student()
    with pytest.raises(AssertionError, match="test is scored once"):
        bench.references.score(Toy(), "test", student, bench.models.engine(student), 0)


def test_the_choice_is_the_earliest_best_on_dev_or_the_step_fixed_in_advance(
    tiny_model_folder, tmp_path
):
    suite = toy_suite(tiny_model_folder, tmp_path)
    assert choose_step(suite, {0: 0.1, 2: 0.5, 4: 0.5, 6: 0.4}).step == 2
    assert choose_step(suite, {0: 0.5, 2: None, 4: 0.5}).step == 0
    assert choose_step(toy_suite(tiny_model_folder, tmp_path, choose="last"), {}).step == 6
    assert choose_step(toy_suite(tiny_model_folder, tmp_path, choose=4), {}).step == 4
    with pytest.raises(CellFailed, match="never scored"):
        choose_step(suite, {0: None})


def test_the_chosen_weights_are_those_that_dev_saw(tiny_model_folder, tmp_path):
    """Scored on test at the chosen step: the stored checkpoint gives the same replies again."""
    suite = toy_suite(tiny_model_folder, tmp_path, choose=4)
    path = run_toy(suite)
    reader = RunReader(path)
    bench = Resources(suite, SuiteDir(tmp_path / "toy"), QuietReporter())
    student = bench.models.fresh_student()
    core = trainer.TrainingCore(student, suite, 1e-3)
    checkpoint.load_student(core, reader.checkpoint_at(4).path)
    again = bench.references.score(
        Toy(), "test", student, bench.models.engine(student), 0, final=True
    )
    stored = reader.read("samples/test")
    assert [row["turns"] for row in stored] == [list(row["turns"]) for row in again.samples]


def test_every_method_meets_the_same_prompts_in_the_same_order(tiny_model_folder, tmp_path):
    """Seeds leave the method out: at step one, on-policy methods write the very same replies."""
    suite = toy_suite(tiny_model_folder, tmp_path, methods=["opcd_full", "opcd_tail"], max_steps=2)
    run_toy(suite)
    rows = [RunReader(path).read("train")[0] for path in SuiteDir(tmp_path / "toy").runs()]
    assert rows[0]["tokens"] == rows[1]["tokens"]
    assert rows[0]["student_entropy"] == rows[1]["student_entropy"]


@pytest.mark.usefixtures("only_played_episodes")
def test_told_replies_are_stored_once_and_shared(tiny_model_folder, tmp_path):
    suite = toy_suite(tiny_model_folder, tmp_path, methods=["sft_context", "reverse_kl_off_policy"])
    opened: list[str] = []
    run_toy(suite, Toy(lambda split, _: opened.append(split)))
    assert opened.count("train") == suite.max_steps * suite.batch_size
    rows = [RunReader(path).read("train") for path in SuiteDir(tmp_path / "toy").runs()]
    assert [row["tokens"] for row in rows[0]] == [row["tokens"] for row in rows[1]]
    assert all(row["tokens_written"] == 0 for row in rows[0])


def test_told_replies_of_several_steps_are_sampled_together_and_again_alike(
    tiny_model_folder, tmp_path, monkeypatch
):
    """A batch of four takes two steps of two; a step that was lost is sampled beside its own."""
    suite = toy_suite(tiny_model_folder, tmp_path, methods=["sft_context"], rollout_batch_size=5)
    asked: list[list[int]] = []
    original = replies.sample_replies

    def sample(slots, *words):
        asked.append(sorted({slot.step for slot in slots}))
        return original(slots, *words)

    monkeypatch.setattr(replies, "sample_replies", sample)
    run_toy(suite)
    assert asked == [[0, 1], [2, 3], [4, 5]]
    (folder,) = (tmp_path / "toy" / "shared").glob("told-*")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    for name in ("step_000004.sha256", "step_000004.jsonl"):
        (folder / name).unlink()
    shutil.rmtree(next(iter(SuiteDir(tmp_path / "toy").runs())))
    run_toy(suite)
    assert asked[3:] == [[2, 3]]
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_told_replies_are_divided_among_workers_in_whole_groups(tiny_model_folder, tmp_path):
    """What two shares store is what one process stores, file by file."""
    stored = []
    for name, shares in (("one", 1), ("two", 2)):
        suite = toy_suite(tiny_model_folder, tmp_path / name, methods=["sft_context"],
                          rollout_batch_size=5)  # fmt: skip
        planned = Plan(suite, {"sft_context": registry.method("sft_context")}, {"toy": Toy()})
        cells = grid.cells(suite, planned.methods, planned.tasks)
        *_, jobs = perform.shared_waves(planned, cells, workers=shares)
        assert len(jobs) == shares
        resources = Resources(suite, SuiteDir(tmp_path / name / "toy"), QuietReporter())
        for job in jobs:
            perform.perform(job, planned, resources, QuietReporter())
        (folder,) = (tmp_path / name / "toy" / "shared").glob("told-*")
        stored.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert stored[0] == stored[1] and len(stored[0]) == 2 * 6


def test_a_cell_is_not_sealed_beside_one_that_was_finished_with_other_settings_meanwhile(
    tiny_model_folder, tmp_path, monkeypatch
):
    """Two runs of one suite at once: the one that comes second would make the folder unusable."""
    first = toy_suite(tiny_model_folder, tmp_path, max_steps=2)
    second = toy_suite(tiny_model_folder, tmp_path, max_steps=4)
    original, sealed = CellRun._finish, []

    def finish(self):
        if self.suite.max_steps == 4:
            sealed.append(run_toy(first))
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(CellRun, "_finish", finish)
        refused = RunReader(run_toy(second))
    assert RunReader(sealed[0]).sealed and not refused.sealed
    assert "suite.max_steps: 2 -> 4" in refused.failure()["reason"]
    with monkeypatch.context() as patch:
        patch.setattr(CellRun, "run", lambda _: pytest.fail("trained though it cannot be sealed"))
        refused = RunReader(run_toy(second))
    assert "suite.max_steps: 2 -> 4" in refused.failure()["reason"]
    assert_comparable(load(tmp_path / "toy"))


def test_what_cells_share_is_made_of_the_methods_that_are_waited_for(tiny_model_folder, tmp_path):
    """Those of sealed cells need none of it again, as after a git clone."""
    names = ["opcd_full", "sft_context", "opcd_full[weights=adapted,by=grpo]"]
    suite = toy_suite(tiny_model_folder, tmp_path, methods=names, seeds=2, num_generations=2)
    planned = Plan(suite, {name: registry.method(name) for name in suite.methods}, {"toy": Toy()})
    plain, told, adapted = (
        [cell for cell in grid.cells(suite, planned.methods, planned.tasks) if cell.method == name]
        for name in suite.methods
    )

    def jobs(cells):
        waves = perform.shared_waves(planned, cells, workers=2)
        return [(job.kind, *job.what) for wave in waves for job in wave]

    assert jobs(plain) == [("anchors", "toy", 0, (suite.methods[0],))]
    assert jobs([*plain[:1], *told[1:]]) == [
        ("anchors", "toy", 0, tuple(suite.methods[:2])),
        ("responses", "toy", 1, (suite.methods[1],), 0, 2),
        ("responses", "toy", 1, (suite.methods[1],), 1, 2),
    ]
    assert jobs([*plain, *adapted[:1]]) == [
        ("anchors", "toy", 0, (suite.methods[0], suite.methods[2])),
        ("adapted", "toy", 0, (suite.methods[2],)),
    ]


def test_a_task_that_fails_in_every_episode_has_its_own_words_in_the_cell_s_reason(
    tiny_model_folder, tmp_path
):
    def opened(split, _):
        if split == "train":
            raise RuntimeError("the board is gone")

    suite = toy_suite(tiny_model_folder, tmp_path, methods=["opcd_full"])
    run_toy(suite, Toy(opened))
    (path,) = SuiteDir(tmp_path / "toy").runs()
    reason = RunReader(path).failure()["reason"]
    assert "no response was left to train on (0 too long, 2 failed" in reason
    assert reason.endswith("the first by RuntimeError: the board is gone)")


def test_a_cell_whose_folder_cannot_be_read_hinders_no_other(
    tiny_model_folder, tmp_path, monkeypatch
):
    suite = toy_suite(tiny_model_folder, tmp_path, methods=["opcd_full", "opcd_tail"])
    with monkeypatch.context() as patch:
        before(patch, CellRun, "run")
        in_child(lambda: run_toy(suite) and None)
    (begun,) = SuiteDir(tmp_path / "toy").runs()
    (begun / "config.json").write_text("{")
    methods = {name: registry.method(name) for name in suite.methods}
    planned, suite_dir = Plan(suite, methods, {"toy": Toy()}), SuiteDir(tmp_path / "toy")
    resources = Resources(suite, suite_dir, QuietReporter())
    first, second = (
        run_cell(cell, planned, resources, QuietReporter())
        for cell in grid.cells(suite, methods, planned.tasks)
    )
    assert first.cell == begun.name and f"{begun / 'config.json'}: damaged" in first.problem
    assert second.problem is None and RunReader(suite_dir.run(second.cell)).sealed


def test_a_failed_cell_is_recorded_and_the_others_go_on(tiny_model_folder, tmp_path, monkeypatch):
    suite = toy_suite(tiny_model_folder, tmp_path, methods=["opcd_full", "opcd_tail"])
    original = Training.step

    def train(self, step):
        if self.method.name == "opcd_full" and step == 3:
            raise CellFailed("the reactor is cold")
        return original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", train)
        run_toy(suite)
    states = {
        RunReader(path).config["method"]["name"]: RunReader(path)
        for path in SuiteDir(tmp_path / "toy").runs()
    }
    assert states["opcd_full"].state == "failed"
    assert states["opcd_full"].failure()["reason"] == "the reactor is cold"
    assert states["opcd_tail"].sealed
    text = plain_text.headline_text(tmp_path / "toy")
    assert "failed: the reactor is cold" in text
    run_toy(suite)
    assert states["opcd_full"].sealed, "the same call takes a failed cell up again"


@pytest.mark.parametrize(
    ("error", "chosen"), [(CellFailed, False), (NonFiniteGradients, True), (Diverged, True)]
)
def test_a_rate_is_chosen_when_every_swept_cell_is_done_or_cannot_be(
    tiny_model_folder, tmp_path, monkeypatch, error, chosen
):
    """A cell whose gradients or weights are not finite is a result of its rate, a lost one none."""
    monkeypatch.setattr(registry, "task", lambda *_, **__: Toy())
    suite = toy_suite(
        tiny_model_folder, tmp_path, learning_rate=[1e-4, 1e-3], seeds=2, sweep_seeds=1,
        headline_learning_rate="dev", max_steps=2,
    )  # fmt: skip
    original = CellRun.run

    def run(self):
        if self.cell.learning_rate == 1e-3:
            raise error("the node is gone")
        original(self)

    def sealed():
        runs = [RunReader(path) for path in SuiteDir(tmp_path / "toy").runs()]
        return [(run.config["learning_rate"], run.config["seed"]) for run in runs if run.sealed]

    console = QuietReporter()
    with monkeypatch.context() as patch:
        patch.setattr(CellRun, "run", run)
        summary = suite_runner.run(suite, console=console)
    assert sealed() == [(1e-4, 0), (1e-4, 1)][: 2 if chosen else 1]
    assert summary.failed == 1 and "output_dir" not in SuiteDir(summary.suite_dir).read()
    said = [one for one in console.warnings if "its learning rate is not chosen" in one]
    assert len(said) == (not chosen)
    if not chosen:
        assert "toy--opcd_full--lr1e-03--s0" in said[0] and "same command again" in said[0]
        assert suite_runner.run(suite, console=console).failed == 0
        assert len(sealed()) == 3


@pytest.mark.parametrize("teacher", ["ema", "live"])
def test_moving_teachers_resume_byte_identical(teacher, tiny_model_folder, tmp_path, monkeypatch):
    moving = Teacher("ema", rate=0.5) if teacher == "ema" else Teacher("live")
    original = registry.method

    def method(name):
        return dataclasses.replace(original(name), teacher=moving)

    monkeypatch.setattr(registry, "method", method)
    whole = run_toy(toy_suite(tiny_model_folder, tmp_path / "whole"))
    suite = toy_suite(tiny_model_folder, tmp_path / "killed")
    with monkeypatch.context() as patch:
        after_rows(patch, 5, torn=False)
        in_child(lambda: run_toy(suite) and None)
    assert truth(run_toy(suite)) == truth(whole)


def test_rows_have_no_nan_and_no_clock(uninterrupted):
    for line in gzip.decompress(uninterrupted["train.jsonl.gz"]).decode().splitlines():
        row = json.loads(line, parse_constant=lambda text: pytest.fail(text))
        assert not {"time", "seconds", "timestamp"} & set(row)


def test_floors_are_stored_beside_the_runs_and_shown(tiny_model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "task", lambda *_, **__: Toy())
    summary = suite_runner.run(toy_suite(tiny_model_folder, tmp_path), console=QuietReporter())
    stored = SuiteDir(summary.suite_dir).read()["floors"]
    assert stored == {"toy": {"uniform": 0.5, "best possible": 1.0}}
    assert "floor" in text_of(summary.suite_dir, chained=False) and "50.0" in text_of(
        summary.suite_dir, chained=False
    )


def test_a_folder_of_runs_from_other_weights_is_refused(tiny_model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "task", lambda *_, **__: Toy())
    folder = write_tiny_model(tmp_path / "model")
    suite_runner.run(toy_suite(folder, tmp_path / "out"), console=QuietReporter())
    shutil.rmtree(folder)
    write_tiny_model(folder, seed=1)
    with pytest.raises(StoreError, match="other weights"):
        suite_runner.run(toy_suite(folder, tmp_path / "out"), console=QuietReporter())


def with_method(monkeypatch, **changes) -> None:
    """Change a field of every method that the registry gives."""
    original = registry.method
    monkeypatch.setattr(
        registry, "method", lambda *of: dataclasses.replace(original(*of), **changes)
    )


def test_a_larger_teacher_teaches_and_its_ceiling_is_its_own(
    tiny_model_folder, tmp_path, monkeypatch
):
    larger = write_tiny_model(tmp_path / "larger", seed=2, hidden_size=96, num_hidden_layers=3)
    with_method(monkeypatch, teacher=Teacher("larger"))
    path = run_toy(toy_suite(tiny_model_folder, tmp_path / "out", teacher_model=str(larger)))
    reader = RunReader(path)
    assert reader.sealed, reader.failure()
    assert reader.read("train")[0]["reverse_kl"] > 0
    assert "ceiling-larger" in {anchor["reading"] for anchor in reader.summary["anchors"]}


def test_other_weights_of_a_larger_teachers_name_are_refused(
    tiny_model_folder, tmp_path, monkeypatch
):
    """They would stand in one table with the first, and find its stored replies."""
    monkeypatch.setattr(registry, "task", lambda *_, **__: Toy())
    with_method(monkeypatch, teacher=Teacher("larger"))
    larger = write_tiny_model(tmp_path / "larger", seed=2)
    suite = toy_suite(tiny_model_folder, tmp_path / "out", teacher_model=str(larger))
    suite_runner.run(suite, console=QuietReporter())
    shutil.rmtree(larger)
    write_tiny_model(larger, seed=3)
    with pytest.raises(StoreError, match=r"other weights of '.*larger'"):
        suite_runner.run(suite, console=QuietReporter())


def test_a_stored_writer_reads_the_told_replies_of_another_run(
    tiny_model_folder, tmp_path, monkeypatch
):
    settings = {"methods": ["sft_context"], "batch_size": 6, "max_steps": 2}
    told = run_toy(toy_suite(tiny_model_folder, tmp_path / "told", **settings))
    (step,) = (tmp_path / "told").glob("toy/shared/told-*/step_000001.jsonl")
    with_method(monkeypatch, writer=stored(str(step)))
    again = run_toy(toy_suite(tiny_model_folder, tmp_path / "again", **settings))
    first = [RunReader(path).read("train")[0] for path in (told, again)]
    assert first[0]["tokens"] == first[1]["tokens"]
    assert first[0]["divergence"] == pytest.approx(first[1]["divergence"], rel=1e-5)


def test_a_run_resumed_with_another_batch_says_so_and_so_do_its_events_and_the_report(
    tiny_model_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(registry, "task", lambda *_, **__: Toy())

    def run(**settings) -> QuietReporter:
        console = QuietReporter()
        suite_runner.run(toy_suite(tiny_model_folder, tmp_path, **settings), console=console)
        return console

    with monkeypatch.context() as patch:
        after_rows(patch, 3, torn=False)
        in_child(lambda: run(rollout_batch_size=4) and None)
    (said,) = run(rollout_batch_size=3).warnings
    assert "goes on otherwise than it began (computing.rollout_batch_size: 4 -> 3)" in said
    (path,) = SuiteDir(tmp_path / "toy").runs()
    assert RunReader(path).environment["computing"]["rollout_batch_size"] == 4
    assert RunReader(path).environment["computing"]["threads"] == torch.get_num_threads()
    cells = load(path.parent).cells
    assert cells["environment"][0]["resumed with"] == [["computing.rollout_batch_size: 4 -> 3"]]
    assert run(rollout_batch_size=2).warnings == [], "what is sealed is not run"


@pytest.mark.parametrize("more", [{}, {"bf16": True}, {"lora_rank": 2}], ids=["", "bf16", "lora"])
def test_no_product_of_a_whole_cell_gets_a_slice(
    tmp_path: Path, tiny_model_folder: Path, more: dict[str, object]
) -> None:
    """`torch.nn.functional.linear` computes what is not contiguous row by row."""
    sliced: set[tuple[int, ...]] = set()

    def look(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, torch.nn.Linear) and not args[0].is_contiguous():
            sliced.add(tuple(module.weight.shape))

    methods = ["opcd_full", "opcd", "forward_kl", "sft_context"]
    suite = toy_suite(tiny_model_folder, tmp_path, methods=methods, max_steps=2, **more)
    hook = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        run_toy(suite)
    finally:
        hook.remove()
    assert not sliced


def test_training_prompts_are_scored_beside_test_for_the_base_the_ceiling_and_the_student(
    tiny_model_folder, tmp_path
):
    path = run_toy(toy_suite(tiny_model_folder, tmp_path, train_items=3, max_steps=2))
    rows = RunReader(path).read("evals")
    (scored,) = [row for row in rows if row["task"] == "toy.training_prompts" and row["primary"]]
    assert scored["n"] == 3 and scored["split"] == "probe" and scored["final"]
    stored = RunReader(path).read("samples/probe-training_prompts")
    seen = {example.id for example in Toy().examples("train")[:3]}
    assert {row["example_id"] for row in stored if "example_id" in row} == seen
    found = probes(load(path.parent))
    assert list(found["method"]) == ["base", "ceiling", "opcd_full"]
    assert set(found["probe"]) == {"training_prompts"}
    assert verify(path) == []


@pytest.mark.parametrize(("bad", "fails"), [({1, 2, 3}, True), ({2}, False)])
def test_a_run_whose_gradients_were_never_finite_is_no_result(
    tiny_model_folder, tmp_path, monkeypatch, bad, fails
):
    """Three steps are fewer than the five in a row after which training gives up."""
    real = trainer.TrainingCore._clipped

    def clipped(self, limit):
        norm = real(self, limit)
        return math.nan if self.step_count + 1 in bad else norm

    monkeypatch.setattr(trainer.TrainingCore, "_clipped", clipped)
    warned = []
    monkeypatch.setattr(QuietReporter, "warn", lambda _, text: warned.append(text))
    run = RunReader(run_toy(toy_suite(tiny_model_folder, tmp_path, max_steps=3)))
    if fails:
        assert not run.sealed
        assert "not finite in any of the 3 optimiser steps" in run.failure()["reason"]
    else:
        assert run.sealed and run.summary["skipped_steps"] == 1
        assert any("not finite in 1 of 3 optimiser steps" in text for text in warned)
