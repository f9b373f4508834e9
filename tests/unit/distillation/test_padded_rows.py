"""Rows of an LM head behind its tokenizer's ids: no loss and no gradient meets them."""

import pytest
import torch
from fixtures import write_tiny_model

from opcd_bench.distillation import scoring
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.functional import token_loss
from opcd_bench.models import loading

TOKENS, ROWS = 259, 320
PROMPTS, REPLIES = [(5, 6, 7), (8, 9)], [(20, 21), (22,)]


@pytest.fixture
def wide(tmp_path):
    loaded = loading.load(
        str(write_tiny_model(tmp_path / "wide", vocab_size=ROWS)), device="cpu", dtype="float32"
    )
    assert (loaded.vocab_size, loaded.padded_rows) == (TOKENS, ROWS - TOKENS)
    return loaded


def likely(loaded):
    """Make every padded row the likeliest: nine times that of the likeliest token."""
    with torch.no_grad():
        states = scoring.hidden_states(loaded, PROMPTS, REPLIES).states_NH
        weight = loaded.model.get_output_embeddings().weight
        best = scoring.logits(loaded, states).argmax(-1)[0]
        weight[TOKENS:] = 9.0 * weight[best]


@pytest.mark.parametrize("name", ["nll", "fkl_full", "rkl_full", "rkl_tail"])
def test_no_loss_and_no_gradient_meets_a_padded_row(wide, name):
    k = {"support": "student_top_k", "k": 4} if name == "rkl_tail" else {}
    weight = wide.model.get_output_embeddings().weight
    ids = torch.tensor([20, 21, 22])

    def scored():
        weight.grad = None
        with torch.enable_grad():
            states = scoring.hidden_states(wide, PROMPTS, REPLIES).states_NH
            student = scoring.logits(wide, states)
            teacher = student.detach().roll(1, -1)
            found = token_loss(named(name, **k), student, teacher, ids)
            found.surrogate.sum().backward()
        return student.shape, found.surrogate.detach().clone(), weight.grad[TOKENS:].abs().max()

    shape, value, gradient = scored()
    likely(wide)
    _, again, _ = scored()
    assert shape[-1] == TOKENS and float(gradient) == 0.0
    assert torch.equal(value, again)
