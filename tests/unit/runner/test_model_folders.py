"""Weights of a model_dir enter the identity, and two kinds of one name never meet in a table."""

import shutil
from pathlib import Path

import pytest
import safetensors.torch

from opcd_bench.errors import ConfigError, ModelError, StoreError
from opcd_bench.models import micro, model_dir
from opcd_bench.models.stored_weights import weights_digest
from opcd_bench.runner import grid, model_folders, registry, requested, suite_runner
from opcd_bench.runner.refusals import refuse_other_settings
from opcd_bench.store.suite_dir import SuiteDir

NAME = "someone/tiny"


@pytest.fixture
def models(tmp_path):
    """Two model_dirs with one name: the built-in weights, and some that differ."""
    for kind in ("original", "rounded"):
        shutil.copytree(micro.path(), tmp_path / kind / NAME)
    file = tmp_path / "rounded" / NAME / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    safetensors.torch.save_file({k: v.half().to(v.dtype) for k, v in weights.items()}, file)
    return tmp_path


def asked(**settings):
    base = registry.suite("quick")
    return requested.suite(base, {"model": NAME, **settings}, "a test")


def test_the_weights_enter_the_identity_and_not_the_name_of_the_suite(models):
    found = {kind: asked(model_dir=str(models / kind)) for kind in ("original", "rounded")}
    bare = asked(model_dir=None)
    assert bare.model_weights is None
    assert found["original"].model_weights != found["rounded"].model_weights
    names = {
        cell.name
        for suite in (bare, *found.values())
        for cell in grid.cells(suite, *registry.plugins_of(suite))
    }
    assert len(names) == 3 * len(grid.cells(bare, *registry.plugins_of(bare)))
    assert {suite.name for suite in found.values()} == {bare.name}


def test_a_larger_teacher_is_known_by_its_weights_too(models):
    suite = asked(model="micro-small", teacher_model=NAME, model_dir=str(models / "rounded"))
    assert len({suite.model_weights, suite.teacher_weights, None}) == 3


def test_the_built_in_model_is_known_by_its_weights_and_keeps_its_identity_beside_a_model_dir(
    models,
):
    suite = asked(model="micro-small", model_dir=str(models / "original"))
    assert suite.identity() == asked(model="micro-small").identity()
    assert suite.model_weights == weights_digest(micro.path("micro-small"))


def test_the_environment_gives_the_model_dir_unless_it_is_set(models, monkeypatch):
    monkeypatch.setenv(model_dir.VARIABLE, str(models / "rounded"))
    assert asked().model_dir == str(models / "rounded")
    assert asked().model_weights == asked(model_dir=str(models / "rounded")).model_weights
    assert asked(model_dir=None).model_weights is None


def test_a_revision_of_the_hub_is_not_asked_of_a_folder(models):
    with pytest.raises(ConfigError, match="revision=none"):
        asked(model_dir=str(models / "original"), revision="main")


def test_damaged_weights_are_refused_before_anything_runs(models):
    file = models / "original" / NAME / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged"):
        asked(model_dir=str(models / "original"))


def test_where_the_weights_come_from_is_part_of_the_provenance(models):
    suite = asked(model_dir=str(models / "original"))
    (models / "original" / NAME / model_dir.RECORD).write_text('{"file": "tiny.gguf"}')
    assert model_folders.origin(suite) == {
        "name": NAME, "weights": suite.model_weights, "made_from": {"file": "tiny.gguf"}
    }  # fmt: skip
    assert model_folders.origin(asked(model="micro-small")) is None


def test_a_finished_run_of_other_weights_refuses_to_be_joined(models, tmp_path):
    small = {"methods": ["sft_context"], "tasks": ["rule_math"], "max_steps": 0, "seeds": 1,
             "dev_items": 1, "test_items": 1, "retention": [], "learning_rate": [1e-4],
             "output_dir": str(tmp_path / "results"), "name": "mixed"}  # fmt: skip
    first = asked(model_dir=str(models / "original"), **small)
    from opcd_bench.progress import QuietReporter

    assert suite_runner.run(first, console=QuietReporter()).failed == 0
    second = asked(model_dir=str(models / "rounded"), **small)
    cells = grid.cells(second, *registry.plugins_of(second))
    with pytest.raises(StoreError, match="model_weights"):
        refuse_other_settings(cells, SuiteDir(Path(first.output_dir) / "mixed"))
    (run,) = SuiteDir(tmp_path / "results" / "mixed").runs()
    assert first.model_weights in (run / "environment.json").read_text()
