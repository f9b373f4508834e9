"""What is scored is what is published: an adapter merged and rounded, and taken out again."""

from __future__ import annotations

import pytest
import torch

from opcd_bench.models import adapters, loading, saving
from opcd_bench.models.merged import as_published

pytest.importorskip("peft", reason="LoRA needs peft: pip install 'opcd-bench[lora]'")


def student_in(dtype: torch.dtype, folder):
    loaded = loading.load(str(folder), device="cpu", dtype=str(dtype).removeprefix("torch."))
    student = adapters.attach(loaded, rank=4, alpha=8, targets="all-linear", seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapters.parameters(student):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return student


def bits(student) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in student.model.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_within_the_block_the_module_computes_what_the_saved_folder_does(
    dtype, tmp_path, tiny_model_folder
):
    student = student_in(dtype, tiny_model_folder)
    saving.save(student, tmp_path / "model")
    saved = loading.load(str(tmp_path / "model"), device="cpu", dtype=str(dtype)[6:])
    ids = torch.arange(5, 40)[None]
    with as_published(student) as loaded, torch.no_grad(), adapters.active(loaded):
        ours = loaded.model(input_ids=ids).logits
    with torch.no_grad():
        assert torch.equal(ours, saved.model(input_ids=ids).logits)
        unmerged = student.model(input_ids=ids).logits
    assert not torch.equal(unmerged, ours), "the adapter apart is rounded otherwise"


def test_after_the_block_every_weight_is_what_it_was_after_an_error_too(tiny_model_folder):
    student = student_in(torch.bfloat16, tiny_model_folder)
    before = bits(student)
    with pytest.raises(ZeroDivisionError), as_published(student):
        1 / 0  # noqa: B018
    after = bits(student)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not student.adapter.layers[0].disable_adapters


def test_a_student_without_an_adapter_is_scored_as_it_is(tiny_loaded):
    with as_published(tiny_loaded) as loaded:
        assert loaded is tiny_loaded
