"""Probes of stored runs: which student is asked, what is stored, and how a kill is survived."""

from __future__ import annotations

import pytest
import toy
from opcd_bench.baselines import opcd_full

from opcd_bench.envs.task import Contexts, Example
from opcd_bench.errors import ConfigError, StoreError, UnknownName
from opcd_bench.progress import QuietReporter
from opcd_bench.report.analysis import optima, prefixes
from opcd_bench.report.analysis.probed_step import steps_of
from opcd_bench.runner import grid, optimum_probe, prefix_probe, probing, registry
from opcd_bench.runner.optimum_probe import Asked as OptimumAsked
from opcd_bench.runner.optimum_probe import OptimumProbe
from opcd_bench.runner.perform import run_cell
from opcd_bench.runner.plan import Plan
from opcd_bench.runner.prefix_probe import Asked, PrefixProbe
from opcd_bench.runner.resources import Resources
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import PREFIX_PROBE, SuiteDir
from opcd_bench.store.verification import verify


class Letters(toy.Toy):
    """Answers are one byte, so one token of the tiny model."""

    def examples(self, split):
        return [
            Example({"word": f"{split}{i}"}, reference="xyz"[i % 3])
            for i in range(toy.SIZES[split])
        ]


@pytest.fixture
def ran(tmp_path, tiny_model_folder, monkeypatch):
    """A sealed run of a toy suite, its task in the registry's place."""
    task = Letters()
    monkeypatch.setattr(registry, "task_of", lambda suite, name: task)
    suite = toy.toy_suite(
        tiny_model_folder, tmp_path / "results", max_steps=2, keep_checkpoints="all"
    )
    suite_dir = SuiteDir(tmp_path / "results" / "toy")
    resources = Resources(suite, suite_dir, QuietReporter())
    suite_dir.merge(suite.model_dump(mode="json"))
    planned = Plan(suite, {"opcd_full": opcd_full.METHOD}, {"toy": task})
    (cell,) = grid.cells(suite, planned.methods, planned.tasks)
    outcome = run_cell(cell, planned, resources, QuietReporter())
    assert outcome.problem is None, outcome.problem
    return suite_dir.run(cell.name), task


def probe_of(run, asked=None, step=None):
    suite = probing.stored_suite(run.parent, {})
    resources = Resources(suite, SuiteDir(run.parent), QuietReporter())
    place = probing.Place(run.parent, run, step)
    teachers = prefix_probe.chosen(
        prefix_probe.teachers_of([probing.method_of(place)], larger=False), None
    )
    made = PrefixProbe(resources, asked or Asked(items=4), teachers, QuietReporter())
    return made, probing.student(resources, probing.settled(place))


def test_a_run_is_handed_over_at_every_share_and_each_part_is_made_once(ran, monkeypatch):
    run, task = ran
    made, student = probe_of(run)
    made.probe(student, task)
    rows = prefixes.stored(run.parent)
    frame = prefixes.prefixes(rows)
    assert list(zip(frame["teacher"], frame["share"], strict=True)) == [
        (who, share) for who in ("student", "in-context") for share in (0.0, 0.25, 0.5, 0.75)
    ]
    assert (rows.groupby(["teacher", "prefixes", "share"]).size() == 4 * 4).all()
    assert set(rows["step"]) == {"chosen"}, "whichever step each seed chose, they are one method"
    (own,) = {part["student"]["step"] for part in SuiteDir(run.parent).read()[PREFIX_PROBE]}
    about = {"name": run.name, "task": "toy", "method": "m", "learning_rate": 1e-3, "seed": 0}
    other = {**about, "name": "another", "seed": 1}
    base = {**about, "name": "base", "method": "base"}
    asked = [{**about, "step": own}, {**about, "step": 77}, {**base, "step": 0}]
    assert steps_of(run.parent, asked) == ["chosen", 77, 0]
    together = [{**about, "step": own}, {**other, "step": own}]
    assert steps_of(run.parent, together) == [own, own], "probed at one step, and one chose it"
    assert not [problem for problem in verify(run.parent) if problem.damage]
    (part, *_) = SuiteDir(run.parent).read()[PREFIX_PROBE]
    kept = (
        SuiteDir(run.parent).shared("prefix-toy", part["shared"].split("--")[1]).get(part["name"])
    )
    assert all(bool(row["turns"]) == (row["sample"] == 0) for row in kept)

    def never(*_, **__):
        raise AssertionError("what is stored is not written again")

    monkeypatch.setattr("opcd_bench.evaluation.handover.play", never)
    made, student = probe_of(run)
    made.probe(student, task)
    assert prefixes.stored(run.parent).equals(rows)


def test_a_probe_that_is_killed_goes_on_where_it_stopped(ran, monkeypatch):
    run, task = ran
    whole = SuiteDir(run.parent)
    made, student = probe_of(run)
    from opcd_bench.evaluation import handover

    real, calls = handover.continued, []

    def dies(*args, **more):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(handover, "continued", dies)
    with pytest.raises(KeyboardInterrupt):
        made.probe(student, task)
    made, student = probe_of(run)
    made.probe(student, task)
    # Eleven parts in all: four of the student, four of the told teacher, three on its own tokens.
    assert len(calls) - 1 == 11
    parts = whole.read()[PREFIX_PROBE]
    assert len({str(part) for part in parts}) == len(parts) == 12


def test_a_checkpoint_is_asked_as_it_was_and_the_chosen_one_by_default(ran):
    run, _ = ran
    suite = probing.stored_suite(run.parent, {})
    resources = Resources(suite, SuiteDir(run.parent), QuietReporter())
    chosen = RunReader(run).summary["chosen_step"]
    places = probing.places([run, run / "checkpoints" / "step_000002"])
    assert sorted({place.step for place in places}) == sorted({chosen, 2})
    student = probing.student(resources, places[-1])
    assert student.about["step"] == 2 and student.about["method"] == "opcd_full"
    assert probing.places([run.parent]) == [places[0]]
    with pytest.raises(StoreError, match="kept no checkpoint of step 1"):
        probing.settled(probing.Place(run.parent, run, 1))


def test_what_moves_numbers_is_no_setting_of_a_probe(ran):
    run, _ = ran
    assert probing.stored_suite(run.parent, {"rollout_batch_size": 3}).rollout_batch_size == 3
    with pytest.raises(ConfigError, match="temperature"):
        probing.stored_suite(run.parent, {"temperature": 0.5})
    with pytest.raises(ConfigError, match="temperature 0"):
        probe_of(run, Asked(temperature=0.0))


def test_teachers_are_those_of_the_suite():
    opsd = registry.method("opsd").describe()
    known = prefix_probe.teachers_of([opsd], larger=True)
    assert list(known) == ["in-context", "larger", "larger-no-context", "with-reference"]
    assert known["larger-no-context"].reads == "nothing"
    grpo = {"teacher": {"weights": "adapted", "by": "grpo", "by_reads": "context"}}
    assert "adapted-grpo-with-context" in prefix_probe.teachers_of([grpo], larger=False)
    with pytest.raises(UnknownName, match="larger"):
        prefix_probe.chosen(prefix_probe.teachers_of([], larger=False), ["larger"])


def test_the_optimum_is_that_of_runs_taught_by_the_initial_student_with_the_context():
    its = ["opcd_full", "opsd[reads=context]", "forward_kl", "sft_then_opcd"]
    others = [
        "opsd", "opcd_full[reads=hint]", "opcd_full[reads=other_hint]", "opcd_live",
        "opcd_full[weights=larger]", "opcd_full[by=grpo,weights=adapted]",
    ]  # fmt: skip
    found = [n for n in [*its, *others] if optimum_probe.is_of(registry.method(n).describe())]
    assert found == its


def test_the_optimum_of_a_pool_is_measured_and_one_context_leaves_nothing_over(ran):
    run, task = ran
    suite = probing.stored_suite(run.parent, {})
    resources = Resources(suite, SuiteDir(run.parent), QuietReporter())
    asked = OptimumAsked(items=3)
    base = probing.base(resources, "toy", 0)
    OptimumProbe(resources, asked, QuietReporter()).probe(base, task)
    (one,) = optima.optima(optima.stored(run.parent)).itertuples()
    assert one.contexts == 1
    assert one.least_forward.value == pytest.approx(0.0, abs=1e-9)
    assert one.least_reverse.value == pytest.approx(0.0, abs=1e-9)
    assert one.forward_excess.value > 0 and one.teacher_right.value == one.forward_right.value

    pool = Contexts(
        (
            task.context(),
            type(task.context())("Say x."),
        )
    )
    OptimumProbe(resources, asked, QuietReporter()).probe(base, task.telling(pool))
    both = optima.stored(run.parent)
    assert set(both["contexts"]) == {1, 2}
    assert (both[both["contexts"] == 2]["least_forward"] > 0).all()
