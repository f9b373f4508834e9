"""Stages, rewards, losses with a state, adapted teachers, hints: whole cells, killed anywhere."""

from __future__ import annotations

import math
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from fixtures import write_tiny_model
from toy import Hinted, Toy, toy_suite, truth

from opcd_bench.distillation import text_health, trainer
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.distillation.losses.scheduled import Taid
from opcd_bench.distillation.method import (
    STUDENT,
    TOLD_TEACHER,
    Method,
    Stage,
    Teacher,
    Writer,
    stored,
)
from opcd_bench.distillation.text_health import Collapse
from opcd_bench.envs import leakage
from opcd_bench.errors import ConfigError, StoreError
from opcd_bench.models import saving
from opcd_bench.progress import QuietReporter
from opcd_bench.report.analysis.comparable import assert_comparable
from opcd_bench.report.analysis.flat import of_headline
from opcd_bench.report.analysis.headline import headline
from opcd_bench.report.analysis.load import load
from opcd_bench.report.analysis.stored_samples import sample_sets
from opcd_bench.runner import grid, model_folders, preflight, probing, refusals
from opcd_bench.runner.adapted import AdaptedTeachers
from opcd_bench.runner.perform import prepare, run_cell
from opcd_bench.runner.plan import Plan
from opcd_bench.runner.refusals import refuse_other_settings
from opcd_bench.runner.resources import Resources
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.run_reader import RunReader, sealed
from opcd_bench.store.suite_dir import SuiteDir
from opcd_bench.store.verification import verify

ADAPTED = Teacher(weights="adapted", by="grpo")


def method(name, loss, writer=STUDENT, **more):
    return Method(name, "A test's.", "a test", writer, loss, **more)


METHODS = {
    "staged": method(
        "staged", named("rkl_full"), teacher=Teacher(weights="ema", rate=0.5),
        begins=Stage(0.5, TOLD_TEACHER, named("nll")),
    ),
    "told_late": method(
        "told_late", named("nll"), TOLD_TEACHER, begins=Stage(0.5, STUDENT, named("rkl_full"))
    ),
    "taid": method("taid", Taid(step=0.2, momentum=0.5)),
    "rewarded": method("rewarded", PolicyGradient(kl=0.1), teacher=Teacher(reads="nothing")),
    "by_rewarded": method("by_rewarded", named("rkl_full"), teacher=ADAPTED),
    "writes": method("writes", named("nll"), TOLD_TEACHER, teacher=ADAPTED),
    "by_told": method(
        "by_told", named("rkl_full"),
        teacher=Teacher(weights="adapted", by="grpo", by_reads="context"),
    ),
    "adapted_hinted": method(
        "adapted_hinted", named("rkl_full"),
        teacher=Teacher(weights="adapted", by="grpo", reads="hint"),
    ),
    "hinted": method("hinted", named("rkl_full"), teacher=Teacher(reads="hint")),
    "writes_hints": method("writes_hints", named("nll"), Writer("teacher", 1.0, reads="hint")),
    "plain": method("plain", named("nll"), TOLD_TEACHER),
}  # fmt: skip


def suite_of(model, folder, *names, **values):
    settings = {"methods": list(names), "num_generations": 2, "temperature": 1.0, **values}
    return toy_suite(model, folder, **settings)


def run(suite, task=None) -> list[Path]:
    """Every cell in this process; their folders in the order of the methods."""
    methods = {name: METHODS[name] for name in suite.methods}
    planned = Plan(suite, methods, {"toy": task or Toy()})
    suite_dir = SuiteDir(Path(suite.output_dir) / suite.name)
    resources = Resources(suite, suite_dir, QuietReporter())
    suite_dir.merge(suite.model_dump(mode="json"))
    cells = grid.cells(suite, methods, planned.tasks)
    for cell in cells:
        outcome = run_cell(cell, planned, resources, QuietReporter())
        assert outcome.problem is None, outcome.problem
    return [suite_dir.run(cell.name) for cell in cells]


def killed_at(monkeypatch, suite, row: int, task=None) -> None:
    """Run in a forked process, which is killed after so many training rows of all its runs."""
    original, count = RunDir.train, [0]

    def train(self, values):
        original(self, values)
        count[0] += 1
        if count[0] == row:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr(RunDir, "train", train)
        pid = os.fork()
        if pid == 0:
            try:
                run(suite, task)
            finally:
                os._exit(1)
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize(
    ("name", "rows"), [("staged", (2, 3, 4, 5)), ("taid", (3, 5)), ("rewarded", (3,))]
)
def test_a_killed_run_goes_on_byte_for_byte(tiny_model_folder, tmp_path, monkeypatch, name, rows):
    (whole,) = run(suite_of(tiny_model_folder, tmp_path / "whole", name))
    for row in rows:
        suite = suite_of(tiny_model_folder, tmp_path / str(row), name)
        killed_at(monkeypatch, suite, row)
        assert truth(run(suite)[0]) == truth(whole), row
    assert verify(whole) == []


def test_stages_share_the_steps_and_each_has_its_own_choices(tiny_model_folder, tmp_path):
    (path,) = run(suite_of(tiny_model_folder, tmp_path, "staged"))
    rows = RunReader(path).read("train")
    assert [row["stage"] for row in rows] == [1, 1, 1, 2, 2, 2]
    kinds = {row["stage"]: row["divergence_kind"] for row in rows}
    assert kinds == {1: "negative_log_likelihood", 2: "reverse_kl"}
    assert rows[2]["tokens_written"] == 0 < rows[3]["tokens_written"]
    assert rows[2]["teacher_tokens_scored"] == 0 < rows[3]["teacher_tokens_scored"]
    described = RunReader(path).config["method"]
    assert described["begins"]["share"] == 0.5 and described["begins"]["loss"]["id"] == "nll"


def test_the_told_teacher_writes_for_the_steps_of_its_own_stage_alone(tiny_model_folder, tmp_path):
    suite = suite_of(tiny_model_folder, tmp_path, "told_late", rollout_batch_size=4)
    (path,) = run(suite)
    (folder,) = (path.parent / "shared").glob("told-toy--*")
    assert sorted(file.stem for file in folder.glob("*.jsonl")) == [
        f"step_{step:06d}" for step in (4, 5, 6)
    ]


def test_the_state_of_a_loss_moves_and_is_logged(tiny_model_folder, tmp_path):
    (path,) = run(suite_of(tiny_model_folder, tmp_path, "taid"))
    rows = RunReader(path).read("train")
    shares = [row["loss_t"] for row in rows]
    assert shares[0] == 0.4 and shares == sorted(shares) and shares[-1] > 0.89
    assert "loss_before" not in rows[0] and rows[1]["loss_before"] > 0
    assert {row["divergence_kind"] for row in rows} == {"interpolated"}


def test_rewards_move_the_student(tiny_model_folder, tmp_path):
    suite = suite_of(tiny_model_folder, tmp_path, "rewarded", num_generations=4)
    (path,) = run(suite)
    rows = RunReader(path).read("train")
    assert max(row["grad_norm"] for row in rows) > 0
    assert all(0 <= row["clip_share"] <= 1 for row in rows)
    assert {row["divergence_kind"] for row in rows} == {"reverse_kl_estimate"}


def test_a_probe_knows_the_adapted_teachers_of_a_suite_with_a_larger_one(
    tiny_model_folder, tmp_path
):
    """The hash of the larger teacher's weights in suite.json is the one that runs have."""
    larger = write_tiny_model(tmp_path / "models" / "larger", num_hidden_layers=3)
    suite = model_folders.located(
        suite_of(
            "near/tiny", tmp_path / "whole", "by_told", teacher_model="near/larger",
            model_dir=str(folders_of(tmp_path, tiny_model_folder, larger)),
        )
    )  # fmt: skip
    methods, task = {"by_told": METHODS["by_told"]}, Toy()
    planned = Plan(suite, methods, {"toy": task})
    suite_dir = SuiteDir(Path(suite.output_dir) / suite.name)
    resources = Resources(suite, suite_dir, QuietReporter())
    prepare(planned, resources, QuietReporter())
    (cell,) = grid.cells(suite, methods, planned.tasks)
    assert run_cell(cell, planned, resources, QuietReporter()).problem is None
    assert probing.stored_suite(suite_dir.path, {}) == suite.model_copy(update={"name": "toy"})
    suite_dir.merge({"teacher_weights": "0" * 64})  # as folders of before have it
    stored = probing.stored_suite(suite_dir.path, {})
    assert stored.teacher_weights == suite.teacher_weights is not None
    probed = Resources(stored, suite_dir, QuietReporter()).models
    teachers = AdaptedTeachers(stored, suite_dir, probed, QuietReporter())
    adapted = teachers.of(METHODS["by_told"].teacher, task, 0)
    assert adapted.name and suite_dir.read()["larger_weights"] != suite.teacher_weights
    (folder,) = (suite_dir.path / "adapted").iterdir()
    shutil.rmtree(folder)
    teachers = AdaptedTeachers(stored, suite_dir, probed, QuietReporter())
    with pytest.raises(StoreError, match=r"is not there\. Put it back .* run the suite again"):
        teachers.of(METHODS["by_told"].teacher, task, 0)


def folders_of(tmp_path, *models):
    """A model_dir with the models near/tiny and near/larger."""
    for name, folder in zip(("tiny", "larger"), models, strict=True):
        shutil.copytree(folder, tmp_path / "near_models" / "near" / name)
    return tmp_path / "near_models"


def test_an_adapted_teacher_is_trained_once_and_survives_a_kill(
    tiny_model_folder, tmp_path, monkeypatch
):
    names = ("by_rewarded", "writes", "by_told")
    whole = suite_of(tiny_model_folder, tmp_path / "whole", *names)
    paths = run(whole)
    folder = paths[0].parent / "adapted"
    assert len(list(folder.iterdir())) == 2, "told and not told, each once"
    made = [RunReader(one) for one in sorted(folder.iterdir())]
    assert all(one.sealed and one.state == "sealed" for one in made)
    assert made[0].read("train") != made[1].read("train")
    killed = suite_of(tiny_model_folder, tmp_path / "killed", *names)
    killed_at(monkeypatch, killed, 3)  # in the midst of adapting
    again = run(killed)
    for one, other in zip(paths, again, strict=True):
        assert truth(one) == truth(other)
    assert verify(paths[0].parent) == []
    results = load(paths[0].parent)
    assert results.ceiling_name("toy", "writes") == "ceiling-adapted-grpo"
    assert results.ceiling_name("toy", "by_told") == "ceiling-adapted-grpo-told"
    assert not results.ceiling("toy", "by_told").empty


def test_the_weights_of_an_adapted_teacher_are_hashed_once_for_all_steps(
    tiny_model_folder, tmp_path, monkeypatch
):
    hashed, original = [], saving.weights_hash

    def weights_hash(model):
        hashed.append(model)
        return original(model)

    monkeypatch.setattr(saving, "weights_hash", weights_hash)
    run(suite_of(tiny_model_folder, tmp_path, "plain"))
    without = len(hashed)
    paths = run(suite_of(tiny_model_folder, tmp_path, "writes", "plain", seeds=2, name="adapted"))
    assert len(hashed) - 2 * without == 2, "one for each seed's teacher, in steps and in ceilings"
    folders = {path.name for path in (paths[0].parent / "shared").glob("told-toy--*")}
    assert len(folders) == 4, "each teacher's own, beside those of the weights before training"


def test_stored_responses_of_a_run_train_the_same_student_again(
    tiny_model_folder, tmp_path, monkeypatch
):
    """Two generations, epochs that end within steps, two seeds: each by the folder of its own."""
    own = {"batch_size": 4, "overlong": "skip"}
    first = suite_of(tiny_model_folder, tmp_path, "plain", seeds=2, **own)
    for seed, path in enumerate(run(first)):
        folders = (path.parent / "shared").glob("told-toy--*")
        truths = []
        for number, folder in enumerate(folders):
            again = method("again", named("nll"), stored(str(folder)))
            monkeypatch.setitem(METHODS, "again", again)
            name = f"again_{seed}_{number}"
            suite = suite_of(
                tiny_model_folder, tmp_path, "again", name=name, first_seed=seed, **own
            )
            truths.append(truth(run(suite)[0]))
        assert len(truths) == 2 and truths.count(truth(path)) == 1


def test_runs_of_a_seed_learn_from_a_teacher_that_was_adapted_with_it(tiny_model_folder, tmp_path):
    paths = run(suite_of(tiny_model_folder, tmp_path, "by_rewarded", "writes", seeds=2))
    folder = paths[0].parent
    made = [RunReader(one) for one in sorted((folder / "adapted").iterdir())]
    assert [one.config["seed"] for one in made] == [0, 1], "one a seed, for both methods"
    assert made[0].read("train") != made[1].read("train")
    results = load(folder)
    taught = results.ceiling("toy", "by_rewarded")
    assert taught.groupby("example_id").size().unique().tolist() == [2], "of both teachers"
    (one,) = (one for one in sample_sets(folder, None) if one.measured == "toy")
    ceilings = [c for c in one.columns if c.reading == "ceiling-adapted-grpo"]
    assert [column.seed for column in ceilings] == [0, 1]
    assert verify(folder) == []


def test_an_adapted_teacher_may_read_hints_and_is_one_with_the_one_that_reads_rules(
    tiny_model_folder, tmp_path
):
    names = ("by_rewarded", "adapted_hinted")
    paths = run(suite_of(tiny_model_folder, tmp_path, *names), Hinted())
    assert len(list((paths[0].parent / "adapted").iterdir())) == 1
    results = load(paths[0].parent)
    assert results.ceiling_name("toy", "adapted_hinted") == "ceiling-adapted-grpo-hint"
    assert not results.ceiling("toy", "adapted_hinted").empty


def outcomes_of(suite, task=None, console=None):
    """How every cell that is not sealed ends, in this process."""
    methods = {name: METHODS[name] for name in suite.methods}
    planned = Plan(suite, methods, {"toy": task or Toy()})
    suite_dir = SuiteDir(Path(suite.output_dir) / suite.name)
    resources = Resources(suite, suite_dir, console or QuietReporter())
    cells = grid.cells(suite, methods, planned.tasks)
    return [
        run_cell(cell, planned, resources, QuietReporter())
        for cell in cells
        if not sealed(suite_dir.run(cell.name))
    ]


@pytest.mark.parametrize(("bad", "fails"), [({1, 2, 3}, True), ({2}, False)])
def test_a_teacher_whose_gradients_were_never_finite_teaches_nobody(
    tiny_model_folder, tmp_path, monkeypatch, bad, fails
):
    real = trainer.TrainingCore._clipped

    def clipped(self, limit):
        norm = real(self, limit)
        return math.nan if self.step_count + 1 in bad else norm

    monkeypatch.setattr(trainer.TrainingCore, "_clipped", clipped)
    console = QuietReporter()
    suite = suite_of(tiny_model_folder, tmp_path, "by_rewarded", max_steps=3)
    (outcome,) = outcomes_of(suite, console=console)
    (teacher,) = map(RunReader, (Path(suite.output_dir) / suite.name / "adapted").iterdir())
    title = "toy: teacher adapted by grpo, seed 0: the gradient was not finite in"
    if fails:
        assert f"{title} any of the 3 optimiser steps" in outcome.problem and not teacher.sealed
    else:
        assert teacher.summary["skipped_steps"] == 1
        assert any(text.startswith(f"{title} 1 of 3 optimiser") for text in console.warnings)


def test_a_teacher_whose_responses_collapse_as_it_is_adapted_is_warned_of(
    tiny_model_folder, tmp_path, monkeypatch
):
    def newest(rows):
        return Collapse(2, "the share of no words", 0.1, 0.9) if len(rows) == 2 else None

    monkeypatch.setattr(text_health, "newest", newest)
    console = QuietReporter()
    (outcome,) = outcomes_of(suite_of(tiny_model_folder, tmp_path, "by_rewarded"), console=console)
    assert outcome.problem is None
    (warned,) = (text for text in console.warnings if "responses have collapsed" in text)
    assert warned.startswith("toy: teacher adapted by grpo, seed 0")


@pytest.mark.parametrize("more", ["writes", "adapted_hinted"])
def test_cells_of_a_seed_learn_from_one_adapted_teacher_or_not_at_all(
    tiny_model_folder, tmp_path, monkeypatch, more
):
    """Removed and trained anew it may come out otherwise, as on another machine."""
    task = Hinted()
    (first,) = run(suite_of(tiny_model_folder, tmp_path, "by_rewarded"), task)
    suite = suite_of(tiny_model_folder, tmp_path, "by_rewarded", more)
    folder = first.parent / "adapted"
    shutil.rmtree(folder)
    original = AdaptedTeachers._steps

    def otherwise(self, training, *rest):
        with torch.no_grad():
            for weight in training.student.model.parameters():
                weight.add_(1e-3)
        original(self, training, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(AdaptedTeachers, "_steps", otherwise)
        console = QuietReporter()
        (outcome,) = outcomes_of(suite, task, console)
    assert "must come out as it was" in console.warnings[0] and first.name in console.warnings[0]
    assert "learnt from an adapted teacher of other weights" in outcome.problem
    assert "--name" in outcome.problem and str(folder) in outcome.problem
    begun = first.parent / outcome.cell
    assert RunReader(begun).read("train") == [], "it is refused before it trains"
    shutil.rmtree(folder)
    (outcome,) = outcomes_of(suite, task)
    assert outcome.problem is None, "trained anew as it was, it teaches"
    assert_comparable(load(first.parent))


def test_the_advice_on_a_missing_adapted_teacher_says_who_learnt_from_it(
    tiny_model_folder, tmp_path
):
    """As in a git clone: the folder is there, its checkpoint is not."""
    (first,) = run(suite_of(tiny_model_folder, tmp_path, "by_rewarded"))
    (adapted,) = (first.parent / "adapted").iterdir()
    shutil.rmtree(adapted / "checkpoints")
    suite = suite_of(tiny_model_folder, tmp_path, "by_rewarded", "writes")
    (outcome,) = outcomes_of(suite)
    assert "checkpoint is not there. Put it back from a copy" in outcome.problem
    assert (
        "It must come out as it was, for finished runs learnt from it (1, such as"
        in outcome.problem
    )
    assert first.name in outcome.problem


def test_cells_whose_teachers_were_adapted_otherwise_stand_in_no_table(
    tiny_model_folder, tmp_path, monkeypatch
):
    first = suite_of(tiny_model_folder, tmp_path, "by_rewarded", "writes")
    paths = run(first)
    assert_comparable(load(paths[0].parent))
    other = suite_of(tiny_model_folder, tmp_path, "by_rewarded", "writes", learning_rate=[3e-3])
    planned = grid.cells(other, {name: METHODS[name] for name in other.methods}, {"toy": Toy()})
    with pytest.raises(StoreError, match=r"adapted\.learning_rate"):
        refuse_other_settings(planned, SuiteDir(paths[0].parent))
    with monkeypatch.context() as patch:
        patch.setattr(refusals, "refuse_other_settings", lambda *_: None)
        run(other)
    with pytest.raises(StoreError, match="teacher adapted by grpo"):
        assert_comparable(load(paths[0].parent))


def test_teachers_are_measured_against_the_ceiling_of_what_they_read(tiny_model_folder, tmp_path):
    names = ("hinted", "writes_hints", "plain")
    paths = run(suite_of(tiny_model_folder, tmp_path, *names), Hinted())
    results = load(paths[0].parent)
    readings = {name: results.ceiling_name("toy", name) for name in names}
    assert readings == {
        "hinted": "ceiling-hint", "writes_hints": "ceiling-hint", "plain": "ceiling",
    }  # fmt: skip
    assert all(not results.ceiling("toy", name).empty for name in names)
    told = [path.name for path in (paths[0].parent / "shared").iterdir() if "told-" in path.name]
    assert len(told) == 2, "told the hint, and told the context"
    table = headline(results).set_index("method")
    assert table.loc["hinted", "measured against"] == "ceiling-hint"
    assert not (paths[0].parent / "adapted").exists()


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("rewarded", {"num_generations": 1}, "add --set num_generations=4"),
        ("by_rewarded", {"num_generations": 1}, "method 'grpo'.*num_generations"),
        ("staged", {"max_steps": 1, "eval_steps": 1, "save_steps": 1}, "raise max_steps"),
        ("hinted", {}, r"its teacher reads the hint.*hinted\[reads=context\]"),
        ("writes_hints", {}, r"rollout policy reads the hint.*\[writer_reads=context\]"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_model(
    tiny_model_folder, tmp_path, name, values, told
):
    suite = suite_of(tiny_model_folder, tmp_path, name, **values)
    with pytest.raises(ConfigError, match=told):
        preflight.refuse_early(suite, {name: METHODS[name]}, {"toy": Toy()}, planned=True)


def test_rewards_need_grades(tiny_model_folder, tmp_path):
    class Ungraded(Toy):
        train_graded = False

    suite = suite_of(tiny_model_folder, tmp_path, "rewarded")
    with pytest.raises(ConfigError, match="are not graded; leave the method out"):
        preflight.refuse_early(
            suite, {"rewarded": METHODS["rewarded"]}, {"toy": Ungraded()}, planned=True
        )


def test_collapsed_responses_are_warned_of_once_and_stored(
    tiny_model_folder, tmp_path, monkeypatch
):
    def newest(rows):
        return Collapse(3, "the share of repeated 4-grams", 0.1, 0.9) if len(rows) == 3 else None

    monkeypatch.setattr(text_health, "newest", newest)
    console = QuietReporter()
    suite = suite_of(tiny_model_folder, tmp_path, "plain")
    planned = Plan(suite, {"plain": METHODS["plain"]}, {"toy": Toy()})
    suite_dir = SuiteDir(Path(suite.output_dir) / suite.name)
    resources = Resources(suite, suite_dir, console)
    suite_dir.merge(suite.model_dump(mode="json"))
    (cell,) = grid.cells(suite, planned.methods, planned.tasks)
    run_cell(cell, planned, resources, console)
    (warning,) = [one for one in console.warnings if "collapsed" in one]
    assert "from 0.10 to 0.90 by step 3" in warning and cell.name not in warning
    reader = RunReader(suite_dir.run(cell.name))
    assert reader.summary["collapsed"]["step"] == 3
    assert [e["step"] for e in reader.read("events") if e["kind"] == "collapsed"] == [3]
    assert all("repeated_4grams" in row and "distinct_1" in row for row in reader.read("train"))


def test_the_headline_has_what_responses_leak_of_the_context(tiny_model_folder, tmp_path):
    (path,) = run(suite_of(tiny_model_folder, tmp_path, "plain"))
    root = path.parent
    assert "mentions context" not in headline(load(root)).columns, "nothing stored says what"
    SuiteDir(root).merge({"told": {"toy": leakage.Told.of(Toy()).to_json()}})
    table = headline(load(root)).set_index("method")
    assert table.loc["plain", "mentions context"].n == table.loc["plain", "plain"].n
    assert table.loc["plain", "mentions context of base"].value == 0.0
    flat = of_headline(load(root))
    assert {"mentions_context", "mentions_context_low", "copies_context_of_base"} <= set(flat)
