"""Models from elsewhere and interpolations: scored once, on the same items, and set apart."""

from __future__ import annotations

import dataclasses
import gc
import math
import shutil
from pathlib import Path

import pytest
import torch
from fixtures import write_tiny_model
from toy import Toy, toy_suite

from opcd_bench.api import load_results
from opcd_bench.config.suite import make_suite
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.method import TOLD_TEACHER, Method
from opcd_bench.errors import ConfigError, StoreError
from opcd_bench.models import loading, saving
from opcd_bench.progress import QuietReporter
from opcd_bench.report.analysis import entrants as frames
from opcd_bench.report.analysis.load import load
from opcd_bench.report.page.render import render
from opcd_bench.report.tables import stored
from opcd_bench.runner import entrants, grid, probing
from opcd_bench.runner.entrants import Entrants, between, float32_base
from opcd_bench.runner.perform import run_cell
from opcd_bench.runner.plan import Plan
from opcd_bench.runner.references import References
from opcd_bench.runner.resources import Resources
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SuiteDir
from opcd_bench.store.verification import verify

SFT = Method("sft", "A test's.", "a test", TOLD_TEACHER, named("nll"))


def finished(model, output, **values):
    """A suite of one trained run, with what it shares."""
    settings = {"methods": ["sft"], "choose": "last", "learning_rate": 0.05, **values}
    suite = toy_suite(model, output, **settings)
    suite_dir = SuiteDir(Path(suite.output_dir) / suite.name)
    resources = Resources(suite, suite_dir, QuietReporter())
    suite_dir.merge(suite.model_dump(mode="json"))
    planned = Plan(suite, {"sft": SFT}, {"toy": Toy()})
    (cell,) = grid.cells(suite, planned.methods, planned.tasks)
    outcome = run_cell(cell, planned, resources, QuietReporter())
    assert outcome.problem is None, outcome.problem
    return resources, cell


def test_weights_lie_on_the_line_between_base_and_trained(tiny_model_folder, tmp_path):
    resources, cell = finished(tiny_model_folder, tmp_path)
    folder = RunReader(resources.suite_dir.run(cell.name)).checkpoint_at(6).path / "model"
    base = resources.models.initial.model.state_dict()
    trained = loading.load(str(folder), dtype="float32").model.state_dict()
    assert any(not torch.equal(base[name], trained[name]) for name in base)
    for share, loaded in between(resources.models, str(folder), (0.25, 0.75)):
        for name, tensor in loaded.model.state_dict().items():
            wanted = base[name] + share * (trained[name] - base[name])
            assert torch.allclose(tensor, wanted, atol=1e-6), (share, name)


def test_an_adapters_base_lies_at_the_beginning_of_the_line(tiny_model_folder, tmp_path):
    pytest.importorskip("peft")
    resources, cell = finished(tiny_model_folder, tmp_path, lora_rank=2, dtype="bfloat16")
    folder = RunReader(resources.suite_dir.run(cell.name)).checkpoint_at(6).path / "model"
    base = float32_base(resources.models).model.state_dict()
    trained = resources.models.frozen(str(folder), "float32").model.state_dict()
    assert any(not torch.equal(base[name], trained[name]) for name in base)
    for share, loaded in between(resources.models, str(folder), (0.25, 0.75)):
        assert loaded.model.state_dict().keys() == base.keys()
        for name, tensor in loaded.model.state_dict().items():
            wanted = base[name] + share * (trained[name] - base[name])
            assert torch.allclose(tensor, wanted, atol=1e-6), (share, name)


@pytest.mark.parametrize("how", [{"bf16": True}, {"dtype": "bfloat16"}, {"dtype": "float32"}])
def test_the_share_that_is_realised_is_the_one_that_is_asked_for(tiny_model_folder, tmp_path, how):
    """Small steps move a bfloat16 weight by one unit or by none; a quarter of a unit is none."""
    resources, cell = finished(tiny_model_folder, tmp_path, learning_rate=3e-5, **how)
    folder = RunReader(resources.suite_dir.run(cell.name)).checkpoint_at(6).path / "model"
    before = dict(resources.models.initial.model.named_parameters())
    after = dict(resources.models.frozen(str(folder)).model.named_parameters())
    asked = (0.25, 0.5, 0.75)
    base = float32_base(resources.models)
    for share, loaded in between(resources.models, str(folder), asked):
        moved = whole = 0.0
        for name, tensor in loaded.model.named_parameters():
            assert torch.equal(dict(base.model.named_parameters())[name], before[name].float())
            update = (after[name].float() - before[name].float()).double()
            moved += float(((tensor.double() - before[name].double()) * update).sum())
            whole += float((update * update).sum())
        assert whole > 0 and moved / whole == pytest.approx(share, abs=1e-4)


def test_drift_on_the_way_is_measured_from_a_base_that_computes_alike(tiny_model_folder, tmp_path):
    """Of bfloat16 from float32 it would be rounding alone, as large as that of a short training."""
    values = {
        "bf16": True, "learning_rate": 1e-6, "interpolate": [1e-6],
        "retention": ["ifeval_micro", "drift"], "retention_items": 2,
        "retention_max_completion_length": 8,
    }  # fmt: skip
    resources, cell = finished(tiny_model_folder, tmp_path, **values)
    Entrants(resources, QuietReporter()).score({"toy": Toy()}, [cell])
    table = frames.frame(load(resources.suite_dir.path)).set_index("share")
    assert abs(table.loc[1e-6, "drift after"].value) < 1e-8


def bytes_of_tensors():
    gc.collect()
    alive = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)]
    stored = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in alive}
    return sum(stored.values())


def test_what_lies_between_takes_six_bytes_a_weight(tiny_model_folder, tmp_path):
    """float32 once, and the trained weights in the suite's type: as much as with rounding."""
    resources, cell = finished(tiny_model_folder, tmp_path, dtype="bfloat16")
    folder = RunReader(resources.suite_dir.run(cell.name)).checkpoint_at(6).path / "model"
    one = sum(p.numel() for p in resources.models.initial.model.parameters())
    before = bytes_of_tensors()
    for _, _ in between(resources.models, str(folder), (0.25, 0.75)):
        assert 4 * one <= bytes_of_tensors() - before < 7 * one


@pytest.mark.parametrize("retention", [["ifeval_micro"], ["ifeval_micro", "drift"]])
def test_a_float32_base_is_made_for_drift_alone(
    tiny_model_folder, tmp_path, monkeypatch, retention
):
    values = {
        "dtype": "bfloat16", "interpolate": [0.25, 0.5], "retention": retention,
        "retention_items": 2, "retention_max_completion_length": 8,
    }  # fmt: skip
    resources, cell = finished(tiny_model_folder, tmp_path, **values)
    made = []
    monkeypatch.setattr(
        entrants, "float32_base", lambda models: made.append(1) or float32_base(models)
    )
    Entrants(resources, QuietReporter()).score({"toy": Toy()}, [cell])
    assert len(made) == (2 if "drift" in retention else 0)


def rounded(suite_dir):
    """What earlier versions wrote of a bfloat16 suite: no type, and the hash of other weights."""
    rows = suite_dir.read()["entrant_scores"]
    for row in rows:
        assert row.pop("dtype") == "float32"
        row["weights"] = "0" * 64
    suite_dir.merge({"entrant_scores": rows})


def test_interpolations_that_were_rounded_are_replaced(tiny_model_folder, tmp_path, monkeypatch):
    values = {
        "dtype": "bfloat16", "interpolate": [0.5], "retention": ["ifeval_micro"],
        "retention_items": 2, "retention_max_completion_length": 8,
    }  # fmt: skip
    resources, cell = finished(tiny_model_folder, tmp_path, **values)
    suite_dir = resources.suite_dir
    Entrants(resources, QuietReporter()).score({"toy": Toy()}, [cell])
    (exact,) = suite_dir.read()["entrant_scores"]
    rounded(suite_dir)
    more = {"retention": ["ifeval_micro", "drift"]}
    for asked in ({}, more):
        resources.suite = resources.references.suite = resources.suite.model_copy(update=asked)
        Entrants(resources, QuietReporter()).score({"toy": Toy()}, [cell])
        (row,) = suite_dir.read()["entrant_scores"]
        assert row["weights"] == exact["weights"] and row["dtype"] == "float32"
        rounded(suite_dir)
    shutil.rmtree(suite_dir.run(cell.name) / "checkpoints")
    warned = []
    monkeypatch.setattr(quiet := QuietReporter(), "warn", warned.append)
    Entrants(resources, quiet).score({"toy": Toy()}, [cell])
    assert len(warned) == 1 and "an earlier version rounded" in warned[0]
    (old,) = suite_dir.read()["entrant_scores"]
    results = load(suite_dir.path)
    for listed in ([old], [old, {**row, "seed": 1}]):
        mixed = dataclasses.replace(results, suite={"entrant_scores": listed})
        assert frames.frame(mixed)["seeds"].tolist() == [1]


def test_a_run_whose_checkpoint_is_gone_or_damaged_hinders_no_other_interpolation(
    tiny_model_folder, tmp_path
):
    resources, cell = finished(tiny_model_folder, tmp_path, interpolate=[0.5])
    run = resources.suite_dir.run(cell.name)
    checkpoint = RunReader(run).checkpoint_at(6).path
    (checkpoint / "manifest.json").rename(tmp_path / "manifest.json")
    console = QuietReporter()
    scorer = Entrants(resources, console)
    assert scorer.score({"toy": Toy()}, [cell]) == 1
    (warned,) = console.warnings
    assert "is not interpolated: its checkpoint of step 6 is gone" in warned
    assert f"type rm -r {run} and then the same command again" in warned
    (checkpoint / "manifest.json").write_text("{}")
    assert scorer.score({"toy": Toy()}, [cell, cell]) == 2
    assert f"run its run again: type rm -r {run}" in console.warnings[1]
    (tmp_path / "manifest.json").rename(checkpoint / "manifest.json")
    assert scorer.score({"toy": Toy()}, [cell]) == 0 and len(console.warnings) == 3
    (row,) = resources.suite_dir.read()["entrant_scores"]
    assert row["run"] == cell.name


def test_a_float32_suites_interpolations_of_before_are_exact(tiny_model_folder, tmp_path):
    resources, cell = finished(tiny_model_folder, tmp_path, interpolate=[0.5])
    Entrants(resources, QuietReporter()).score({"toy": Toy()}, [cell])
    (row,) = resources.suite_dir.read()["entrant_scores"]
    assert "dtype" not in row


def test_they_are_scored_once_and_stand_apart(tiny_model_folder, tmp_path, monkeypatch):
    shares = {"interpolate": [0.5], "entrants": {"mine": str(tiny_model_folder)}}
    resources, cell = finished(tiny_model_folder, tmp_path, **shares)
    counted = []
    original = References.score

    def score(self, task, split, loaded, *rest, **more):
        counted.append(saving.weights_hash(loaded.model))
        return original(self, task, split, loaded, *rest, **more)

    monkeypatch.setattr(References, "score", score)
    for _ in range(2):  # the second time everything is stored
        Entrants(resources, QuietReporter()).score({"toy": Toy()}, [cell])
    assert len(counted) == 2 == len(set(counted))
    results = load(resources.suite_dir.path)
    table = frames.frame(results).set_index("name")
    assert list(table.index) == ["mine", "sft at 0.5"]
    assert list(table["kind"]) == ["checkpoint", "interpolation"]
    assert table.loc["mine", "plain"] == table.loc["mine", "base"], "the base by another name"
    assert table.loc["mine", "gain"].value == 0 and table.loc["sft at 0.5", "share"] == 0.5
    own = load_results(resources.suite_dir.path).entrants
    assert {"accuracy", "accuracy_low", "gain", "share"} <= set(own) and len(own) == 2
    text = stored.text_of(resources.suite_dir.path, chained=False)
    above, below = text.split("Scored and not trained here")
    assert "sft at 0.5" in below and "mine" in below and "sft at 0.5" not in above
    page = render(results, command="report")
    assert {"data/entrants.csv", "index.html"} <= set(page)
    html = page["index.html"].decode()
    assert '<section id="entrants"' in html and ">sft at 0.5</th>" in html
    assert verify(resources.suite_dir.path) == []
    shutil.rmtree(resources.suite_dir.run(cell.name) / "checkpoints")
    Entrants(resources, QuietReporter()).score({"toy": Toy()}, [cell])  # nothing is left to score
    assert len(counted) == 2


def test_a_suite_without_any_has_no_such_table(tiny_model_folder, tmp_path):
    resources, _ = finished(tiny_model_folder, tmp_path)
    results = load(resources.suite_dir.path)
    assert frames.frame(results).empty
    assert "not trained here" not in stored.text_of(resources.suite_dir.path, chained=False)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"interpolate": [0.5, 1.0]}, "interpolate: 1 is no share"),
        ({"interpolate": [0.5, 0.5]}, "has a share twice"),
        ({"interpolate": [0.5], "keep_checkpoints": "none"}, "keep_checkpoints = 'chosen'"),
        ({"entrants": {"opcd": "x"}}, "no method's name"),
        ({"entrants": {"../x": "x"}}, "is no name for an entrant"),
        ({"entrants": {"a": "x"}, "rounds": 2}, "suites of one round"),
        ({"interpolate": [0.5], "engine": "vllm", "bf16": True}, "set engine = 'hf'"),
        ({"interpolate": [0.5], "engine": "vllm", "dtype": "bfloat16"}, "set engine = 'hf'"),
    ],
)
def test_what_cannot_be_is_refused_as_the_suite_is_read(values, told):
    base = {"methods": ["opcd"], "tasks": ["rule_math"], "learning_rate": 1e-3, "max_steps": 4}
    with pytest.raises(ConfigError, match=told):
        make_suite({**base, **values}, "test")


def test_a_later_run_without_entrants_keeps_what_was_scored(tiny_model_folder, tmp_path):
    """Every run puts its settings into suite.json, and one of them is called ``entrants``."""
    entered = {"entrants": {"mine": str(tiny_model_folder)}}
    resources, cell = finished(tiny_model_folder, tmp_path, **entered)
    Entrants(resources, QuietReporter()).score({"toy": Toy()}, [cell])
    suite_dir = resources.suite_dir
    for later in ({}, {"entrants": {"other": "x"}}):
        settings = resources.suite.model_dump(mode="json") | {"entrants": {}, **later}
        suite_dir.merge(settings)
        assert list(frames.frame(load(suite_dir.path))["name"]) == ["mine"]
    assert probing.stored_suite(suite_dir.path, {}).entrants["mine"] == str(tiny_model_folder)


def test_the_same_weights_with_another_template_are_another_model(tiny_model_folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_model_folder, other)
    loaded = loading.load(str(other), device="cpu")
    template = str(loaded.tokenizer.chat_template).replace("assistant", "helper")
    loaded.tokenizer.chat_template = template
    loaded.tokenizer.save_pretrained(other)
    models = {"same": str(tiny_model_folder), "other": str(other)}
    resources, cell = finished(tiny_model_folder, tmp_path, entrants=models)
    Entrants(resources, QuietReporter()).score({"toy": Toy()}, [cell])
    folders = [one.path.name for one in resources.suite_dir.all_shared()]
    assert len([name for name in folders if name.startswith("entrant-toy--")]) == 2


def test_one_model_by_two_paths_and_after_another_first_seed_is_one_seed(
    tiny_model_folder, tmp_path, monkeypatch
):
    resources, cell = finished(
        tiny_model_folder, tmp_path, entrants={"mine": str(tiny_model_folder)}
    )
    suite_dir = resources.suite_dir
    monkeypatch.chdir(Path(tiny_model_folder).parent)
    for source, first in ((str(tiny_model_folder), 0), (f"./{tiny_model_folder.name}", 0),
                          (str(tiny_model_folder), 3)):  # fmt: skip
        changed = {"entrants": {"mine": source}, "first_seed": first}
        resources.suite = resources.suite.model_copy(update=changed)
        Entrants(resources, QuietReporter()).score({"toy": Toy()}, [cell])
    listed = suite_dir.read()["entrant_scores"]
    assert [(row["seed"], row["source"][:2]) for row in listed] == [(0, "./"), (3, "/t")]
    table = frames.frame(load(suite_dir.path))
    assert table["seeds"].tolist() == [1]
    assert table.loc[0, "plain"].examples == 5


def test_an_entrant_that_is_sampled_from_two_seeds_is_one_model(tiny_model_folder, tmp_path):
    sampled = {"seeds": 2, "eval_temperature": 1.0, "entrants": {"a": str(tiny_model_folder)}}
    suite = toy_suite(tiny_model_folder, tmp_path, methods=["sft"], **sampled)
    suite_dir = SuiteDir(Path(suite.output_dir) / suite.name)
    suite_dir.merge(suite.model_dump(mode="json"))
    resources = Resources(suite, suite_dir, QuietReporter())
    for _ in range(2):
        Entrants(resources, QuietReporter()).score({"toy": Toy()}, [])
    rows = suite_dir.read()["entrant_scores"]
    assert [row["seed"] for row in rows] == [0, 1]
    twice = {"entrant_scores": [*rows, {**rows[0], "source": "elsewhere"}]}  # as older suites have
    results = dataclasses.replace(load(suite_dir.path), suite=twice)
    table = frames.frame(results)
    assert table["seeds"].tolist() == [1], "it was trained once, or never, however often it answers"
    assert math.isinf(table.loc[0, "plain"].freedom), "no t over trainings"


def test_one_name_is_not_two_models(tiny_model_folder, tmp_path):
    resources, cell = finished(tiny_model_folder, tmp_path, entrants={"a": str(tiny_model_folder)})
    Entrants(resources, QuietReporter()).score({"toy": Toy()}, [cell])
    other = write_tiny_model(tmp_path / "other", seed=1)
    suite = resources.suite.model_copy(update={"entrants": {"a": str(other)}})
    again = Resources(suite, resources.suite_dir, QuietReporter())
    with pytest.raises(StoreError, match="'a' was scored with other weights"):
        Entrants(again, QuietReporter()).score({"toy": Toy()}, [cell])
    assert frames.frame(load(resources.suite_dir.path)).loc[0, "seeds"] == 1
