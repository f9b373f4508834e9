"""Hub names lead to folders below --model-dir, and folders are known by their weights."""

import pytest
import safetensors.torch
import torch

from opcd_bench.errors import ModelError
from opcd_bench.models import model_dir
from opcd_bench.models.source import source_of
from opcd_bench.models.stored_weights import weights_digest


def tensors(**changed):
    torch.manual_seed(0)
    return {"a": torch.randn(3, 4), "b": torch.randn(5), **changed}


def test_a_hub_name_is_a_folder_where_the_model_dir_has_it(tmp_path):
    (tmp_path / "someone" / "tiny").mkdir(parents=True)
    assert model_dir.mapped("someone/tiny", tmp_path) == tmp_path / "someone" / "tiny"
    assert model_dir.mapped("someone/other", tmp_path) is None
    assert model_dir.mapped("someone/tiny", None) is None
    assert source_of("someone/other", model_dir=str(tmp_path)) == "someone/other"


@pytest.mark.parametrize(
    "name", ["micro", "micro-small", "./tiny", "/tiny", "~/tiny", "a/b/tiny", "../tiny"]
)
def test_paths_and_the_built_in_model_are_never_mapped(tmp_path, name):
    for folder in ("micro", "tiny", "a/b/tiny"):
        (tmp_path / folder).mkdir(parents=True)
    assert model_dir.mapped(name, tmp_path) is None


def test_a_model_dir_that_is_not_there_is_one_message(tmp_path):
    with pytest.raises(ModelError, match="there is no folder"):
        model_dir.mapped("someone/tiny", tmp_path / "none")


def test_the_environment_stands_for_the_option(monkeypatch):
    monkeypatch.delenv(model_dir.VARIABLE, raising=False)
    assert model_dir.given(None) is None
    monkeypatch.setenv(model_dir.VARIABLE, "from_environment")
    assert model_dir.given(None) == "from_environment"
    assert model_dir.given("given") == "given"


def test_the_digest_is_of_the_tensors_and_not_of_their_files(tmp_path):
    for name in ("one", "two", "other", "cast"):
        (tmp_path / name).mkdir()
    safetensors.torch.save_file(tensors(), tmp_path / "one" / "model.safetensors")
    for name, value in tensors().items():
        file = tmp_path / "two" / f"model-{name}.safetensors"
        safetensors.torch.save_file({name: value}, file, metadata={"format": "pt"})
    changed = tensors(b=tensors()["b"] + 1e-6)
    safetensors.torch.save_file(changed, tmp_path / "other" / "model.safetensors")
    half = {name: value.bfloat16() for name, value in tensors().items()}
    safetensors.torch.save_file(half, tmp_path / "cast" / "model.safetensors")
    found = {name: weights_digest(tmp_path / name) for name in ("one", "two", "other", "cast")}
    assert found["one"] == found["two"]
    assert len(set(found.values())) == 3


@pytest.mark.parametrize("keep", [4, 60, -3])
def test_damaged_weights_are_one_message(tmp_path, keep):
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(tensors(), file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ModelError, match="damaged"):
        weights_digest(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no \*\.safetensors"):
        weights_digest(tmp_path)
