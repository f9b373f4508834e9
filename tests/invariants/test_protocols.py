"""What is measured before training and after is measured under one protocol, or measured anew."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from report_store import GOOD, cell, finished
from toy import Toy, toy_suite

from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.method import TOLD_TEACHER, Method
from opcd_bench.envs.task import Example
from opcd_bench.errors import StoreError
from opcd_bench.evaluation import held_out, retention
from opcd_bench.evaluation.task_scores import retention_sampling
from opcd_bench.progress import QuietReporter
from opcd_bench.report.analysis.comparable import assert_comparable
from opcd_bench.report.analysis.load import ANCHOR_PROTOCOLS, load
from opcd_bench.runner import grid, registry, requested, suite_runner
from opcd_bench.runner.entrants import Entrants
from opcd_bench.runner.perform import prepare, run_cell
from opcd_bench.runner.plan import Plan
from opcd_bench.runner.references import References
from opcd_bench.runner.resources import Resources
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SharedDir, SuiteDir

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
SFT = Method("sft", "A test's.", "a test", TOLD_TEACHER, named("nll"))
KEPT = {"retention": ["ifeval_micro"], "retention_items": 2}


class Bench:
    """A suite of one run, as one call of `opcd-bench run` has it: loaded anew."""

    def __init__(self, model, output, task=None, **values):
        settings = {
            "methods": ["sft"],
            "choose": "last",
            "learning_rate": 0.05,
            "max_steps": 2,
            "retention_max_completion_length": 4,
            **values,
        }
        self.suite = toy_suite(model, output, **settings)
        self.folder = SuiteDir(Path(self.suite.output_dir) / self.suite.name)
        self.planned = Plan(self.suite, {"sft": SFT}, {"toy": task or Toy()})
        self.resources = Resources(self.suite, self.folder, QuietReporter())
        self.references = self.resources.references
        cells = grid.cells(self.suite, self.planned.methods, self.planned.tasks)
        self.cell = cells[0]

    def prepare(self):
        prepare(self.planned, self.resources, QuietReporter())

    def run(self):
        self.prepare()
        return run_cell(self.cell, self.planned, self.resources, QuietReporter()).problem

    def scored(self, measured):
        """The protocols of what the run scored, and of what it is compared with."""
        reader = RunReader(self.folder.run(self.cell.name))
        runs = {r["protocol_hash"] for r in reader.read("evals") if r["task"] == measured}
        anchors = reader.summary["anchors"]
        heads = [
            SharedDir(self.folder.path / "shared" / one["shared"]).get(one["name"])[0]["measured"]
            for one in anchors
        ]
        return runs, {head["protocol_hash"] for head in heads if head["task"] == measured}


@pytest.fixture
def other_lm_eval(monkeypatch):
    """Call it, and another version of lm-eval is installed."""

    def call():
        version = importlib.metadata.version
        monkeypatch.setattr(
            importlib.metadata, "version", lambda name: version(name) + "1" * (name == "lm_eval")
        )

    return call


def texts(folder, *numbers):
    (folder / "wikitext").mkdir(exist_ok=True)
    rows = [
        json.dumps({"text": f"{number} is a number of some length. " * 10}) for number in numbers
    ]
    (folder / "wikitext" / "test.jsonl").write_text("\n".join(rows))


@pytest.mark.parametrize("on_the_way", [True, False])
def test_a_base_of_another_lm_eval_is_measured_again_before_a_run_begins(
    tiny_model_folder, tmp_path, other_lm_eval, on_the_way
):
    values = {**KEPT, "retention": ["ifeval_micro", "drift"], "eval_retention": on_the_way}
    first = Bench(tiny_model_folder, tmp_path, **values)
    first.prepare()
    first.references.base_retention()  # and the process ends here
    before = {one.path.name for one in first.folder.all_shared()}
    other_lm_eval()
    again = Bench(tiny_model_folder, tmp_path, **values)
    assert again.run() is None
    for measured in ("ifeval_micro", "drift"):
        runs, anchors = again.scored(measured)
        assert runs == anchors and len(runs) == 1
    used = {
        one["shared"] for one in RunReader(again.folder.run(again.cell.name)).summary["anchors"]
    }
    assert len(before) == 2 and not before & used, "the old base is left alone"
    assert_comparable(load(again.folder.path))


def test_a_held_out_loss_on_other_texts_is_measured_again(tiny_model_folder, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    texts(data, 1, 2)
    values = {"retention": ["loss_wikitext"], "data_dir": str(data)}
    first = Bench(tiny_model_folder, tmp_path / "out", **values)
    first.prepare()
    first.references.base_retention()
    texts(data, 3, 4)
    again = Bench(tiny_model_folder, tmp_path / "out", **values)
    assert again.run() is None
    runs, anchors = again.scored("loss_wikitext")
    assert runs == anchors == {held_out.protocol_of(again.resources.models.initial, "loss_wikitext",
                                                 str(data)).hash}  # fmt: skip


class Read(Toy):
    """Reads its last test word from somewhere, of which its options say nothing."""

    def __init__(self, word):
        super().__init__()
        self.word = word

    def examples(self, split):
        return [
            Example({"word": one.content["word"].replace("test4", f"test4{self.word}")})
            for one in super().examples(split)
        ]


def test_a_base_on_other_test_examples_is_measured_again(tiny_model_folder, tmp_path):
    first = Bench(tiny_model_folder, tmp_path, task=Read(""))
    first.prepare()
    first.references.anchors(first.planned.tasks["toy"], 0, SFT.describe())
    again = Bench(tiny_model_folder, tmp_path, task=Read(" now"))
    assert again.run() is None
    results = load(again.folder.path)
    assert_comparable(results)
    tested = {key for key in results.samples["example_id"]}
    assert {*results.anchors["example_id"]} == tested and len(tested) == 5


def test_of_one_protocol_it_is_found_where_it_ever_was(tiny_model_folder, tmp_path):
    first = Bench(tiny_model_folder, tmp_path, **KEPT)
    first.prepare()
    empty = first.references.retention_folder("ifeval_micro").path.name
    first.references.base_retention()
    again = Bench(tiny_model_folder, tmp_path, **KEPT).references
    found = again.retention_folder("ifeval_micro")
    assert found.path.name == empty and found.has("base")


def test_what_is_known_beforehand_is_what_is_measured(tiny_loaded):
    decoding = retention_sampling(registry.suite("quick"))
    decoding = dataclasses.replace(decoding, max_completion_length=4)
    asked = {"decoding": decoding, "limit": 2}
    known = retention.protocol_of("ifeval_micro", tiny_loaded.tokenizer, **asked)
    model, tokenizer = tiny_loaded.model, tiny_loaded.tokenizer
    (found,) = retention.measure(model, tokenizer, ["ifeval_micro"], **asked)
    assert known.is_of(found.primary, found.protocol_hash)
    assert not known.is_of(found.primary, "another")


def test_finished_runs_of_another_protocol_are_said_before_anything_is_trained(
    tiny_model_folder, tmp_path, other_lm_eval
):
    assert Bench(tiny_model_folder, tmp_path, **KEPT, seeds=1).run() is None
    other_lm_eval()
    more = Bench(tiny_model_folder, tmp_path, **KEPT, learning_rate=0.01)
    told = r"ifeval_micro \(retention\) was measured under another protocol.*lm-eval.*--name"
    with pytest.raises(StoreError, match=told):
        more.prepare()
    # As on another node of a cluster: the cell is refused before its first step.
    problem = run_cell(more.cell, more.planned, more.resources, QuietReporter()).problem
    assert "under another protocol" in problem
    assert RunReader(more.folder.run(more.cell.name)).read("train") == []
    assert load(more.folder.path).cells["state"].tolist() == ["failed", "done"]
    assert_comparable(load(more.folder.path))


def test_a_run_that_was_begun_under_another_protocol_is_named_with_what_to_remove(
    tiny_model_folder, tmp_path, other_lm_eval, monkeypatch
):
    first = Bench(tiny_model_folder, tmp_path, **KEPT)
    with monkeypatch.context() as patched:
        patched.setattr("opcd_bench.runner.training.Training.step", lambda *_: 1 / 0)
        assert "ZeroDivisionError" in first.run()
    other_lm_eval()
    again = Bench(tiny_model_folder, tmp_path, **KEPT)
    run = again.folder.run(again.cell.name)
    with pytest.raises(StoreError, match="remove the run that was begun: rm -r ") as refused:
        again.prepare()
    assert str(run) in str(refused.value)
    shutil.rmtree(run)
    assert Bench(tiny_model_folder, tmp_path, **KEPT).run() is None


def test_a_finished_suite_under_another_lm_eval_is_left_as_it_is(
    tiny_model_folder, tmp_path, other_lm_eval, monkeypatch
):
    values = {**KEPT, "entrants": {"mine": str(tiny_model_folder)}}
    first = Bench(tiny_model_folder, tmp_path, **values)
    assert first.run() is None
    Entrants(first.resources, QuietReporter()).score(first.planned.tasks, [first.cell])
    before = {one.path.name for one in first.folder.all_shared()}
    other_lm_eval()
    monkeypatch.setattr(References, "score", None)
    monkeypatch.setattr(References, "retained", None)
    again = Bench(tiny_model_folder, tmp_path, **values)
    assert again.run() is None
    Entrants(again.resources, QuietReporter()).score(again.planned.tasks, [again.cell])
    assert {one.path.name for one in again.folder.all_shared()} == before


def test_an_entrant_is_not_scored_beside_runs_of_another_protocol(
    tiny_model_folder, tmp_path, other_lm_eval
):
    assert Bench(tiny_model_folder, tmp_path, **KEPT).run() is None
    other_lm_eval()
    again = Bench(tiny_model_folder, tmp_path, **KEPT, entrants={"mine": str(tiny_model_folder)})
    with pytest.raises(StoreError, match=r"ifeval_micro \(retention\) was measured under another"):
        Entrants(again.resources, QuietReporter()).score(again.planned.tasks, [again.cell])


@pytest.mark.parametrize("other", [False, True])
def test_the_command_of_a_finished_reference_suite_computes_nothing_anew(
    tmp_path, monkeypatch, other_lm_eval, other
):
    shutil.copytree(REFERENCE / "faces_topk", tmp_path / "faces_topk")
    suite = requested.suite(registry.suite("faces_topk"), {"output_dir": str(tmp_path)}, "a test")
    if other:
        other_lm_eval()
    for name in ("score", "retained", "probe"):
        monkeypatch.setattr(References, name, None)
    shared = {path.name for path in (tmp_path / "faces_topk" / "shared").iterdir()}
    done = suite_runner.run(suite, console=QuietReporter())
    assert done.done == done.total > 0
    assert {path.name for path in (tmp_path / "faces_topk" / "shared").iterdir()} == shared


class Warned(QuietReporter):
    """Keeps what it is to warn of."""

    def __init__(self):
        self.said = []

    def warn(self, text):
        self.said.append(text)


def test_a_damaged_run_is_warned_of_and_stops_no_other(tiny_model_folder, tmp_path):
    first = Bench(tiny_model_folder, tmp_path, **KEPT, seeds=1)
    assert first.run() is None
    run = first.folder.run(first.cell.name)
    (run / "evals.jsonl.gz").unlink()
    more = Bench(tiny_model_folder, tmp_path, **KEPT, learning_rate=0.01)
    console = Warned()
    prepare(more.planned, more.resources, console)
    (told,) = [text for text in console.said if "evals" in text]
    assert f"rm -r {run}" in told and "The other runs go on" in told
    assert run_cell(more.cell, more.planned, more.resources, QuietReporter()).problem is None


def test_a_run_that_was_sealed_without_anchors_stops_no_other(
    tiny_model_folder, tmp_path, other_lm_eval, monkeypatch
):
    first = Bench(tiny_model_folder, tmp_path, **KEPT)
    assert first.run() is None
    summary = RunReader(first.folder.run(first.cell.name)).summary
    monkeypatch.setattr(RunReader, "summary", {k: summary[k] for k in summary if k != "anchors"})
    other_lm_eval()
    again = Bench(tiny_model_folder, tmp_path, **KEPT).references
    assert not again.retention_folder("ifeval_micro").has("base")


@pytest.fixture
def read(monkeypatch):
    """How often a retention task's documents were read for its protocol."""
    found, protocol_of = [], retention.protocol_of

    def counted(name, *args, **settings):
        found.append(name)
        return protocol_of(name, *args, **settings)

    monkeypatch.setattr(retention, "protocol_of", counted)
    return found


def test_documents_are_read_for_a_protocol_only_where_it_is_compared(
    tiny_model_folder, tmp_path, read
):
    first = Bench(tiny_model_folder, tmp_path, **KEPT, seeds=1)
    first.prepare()
    assert read == [], "of a fresh suite nothing is stored"
    first.references.base_retention()
    assert first.run() is None
    finished = Bench(tiny_model_folder, tmp_path, **KEPT, seeds=1)
    read.clear()
    assert finished.run() is None
    assert read == [], "a finished suite compares nothing"
    more = Bench(tiny_model_folder, tmp_path, **KEPT, learning_rate=0.01)
    assert more.run() is None
    assert read == ["ifeval_micro"], "once a process"


@pytest.mark.parametrize(
    ("reading", "under", "refused"),
    [
        ("base", "p", False),
        ("base", "another", True),
        ("ceiling", "another", True),
        ("ceiling-larger", "another", False),
    ],
)
def test_a_report_subtracts_no_base_of_another_protocol(tmp_path, reading, under, refused):
    suite = SuiteDir(tmp_path / "toys")
    suite.merge({"name": "toys"})
    finished(suite, cell("good"), GOOD, protocol="p")
    anchor = [reading, "toy--k", "toy", "test", under]
    protocols = pd.DataFrame([anchor], columns=ANCHOR_PROTOCOLS)
    results = dataclasses.replace(load(suite.path), protocols=protocols)
    if not refused:
        assert_comparable(results)
        return
    with pytest.raises(StoreError, match=r"toy on test was measured under 2 protocols before"):
        assert_comparable(results)


def test_protocols_of_what_runs_are_compared_with_are_read(tiny_model_folder, tmp_path):
    first = Bench(tiny_model_folder, tmp_path, **KEPT)
    assert first.run() is None
    found = load(first.folder.path).protocols
    assert {*zip(found["reading"], found["measured"], strict=True)} == {
        ("base", "toy"), ("ceiling", "toy"), ("base", "ifeval_micro"),
    }  # fmt: skip
    assert found["protocol_hash"].nunique() == 2
