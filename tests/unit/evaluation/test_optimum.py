"""The optima of a student without context, against brute force."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opcd_bench.errors import DataError
from opcd_bench.evaluation.optimum import answer_ids, compared, kl, next_logps, optima
from opcd_bench.models.prompts import prompt_ids

shapes = st.tuples(st.integers(1, 6), st.integers(2, 9), st.integers(0, 10_000))


def teachers(contexts, tokens, seed):
    draw = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(contexts, tokens, generator=draw, dtype=torch.float64)
    return torch.log_softmax(logits, -1)


def mean_forward(logp_CV, p_V):
    return sum(kl(one, p_V) for one in logp_CV) / len(logp_CV)


def mean_reverse(logp_CV, p_V):
    return sum(kl(p_V, one) for one in logp_CV) / len(logp_CV)


@given(shapes)
@settings(max_examples=60, deadline=None)
def test_any_students_loss_is_the_least_one_and_its_kl_to_the_optimum(shape):
    logp_CV = teachers(*shape)
    best = optima(logp_CV)
    p_V = teachers(1, shape[1], shape[2] + 1)[0]
    forward, reverse = mean_forward(logp_CV, p_V), mean_reverse(logp_CV, p_V)
    assert forward == pytest.approx(best.least_forward + kl(best.forward_V, p_V), abs=1e-9)
    assert reverse == pytest.approx(best.least_reverse + kl(p_V, best.reverse_V), abs=1e-9)
    for logp_V in (best.forward_V, best.reverse_V):
        assert float(logp_V.exp().sum()) == pytest.approx(1.0)


@given(shapes)
@settings(max_examples=15, deadline=None)
def test_descent_on_either_loss_ends_at_its_optimum(shape):
    logp_CV = teachers(*shape) / 2
    logp_CV = torch.log_softmax(logp_CV, -1)
    best = optima(logp_CV)
    for forward, optimum in ((True, best.forward_V), (False, best.reverse_V)):
        logits = torch.zeros(shape[1], dtype=torch.float64, requires_grad=True)
        tool = torch.optim.LBFGS([logits], max_iter=500, line_search_fn="strong_wolfe",
                                 tolerance_grad=1e-10, tolerance_change=1e-14)  # fmt: skip

        def loss(forward=forward, logits=logits, tool=tool):
            tool.zero_grad()
            p_V = torch.log_softmax(logits, -1)
            terms = logp_CV.exp() * (logp_CV - p_V) if forward else p_V.exp() * (p_V - logp_CV)
            value = terms.sum(-1).mean()
            value.backward()
            return value

        tool.step(loss)
        found = torch.softmax(logits.detach(), -1)
        torch.testing.assert_close(found, optimum.exp(), atol=1e-4, rtol=0)


def test_ten_teachers_that_each_know_an_answer_of_their_own():
    """The irreducible values, and a token that all share, which reverse KL amplifies."""
    q = torch.full((10, 10), 0.01, dtype=torch.float64)
    q.fill_diagonal_(0.91)
    best = optima(q.log())
    torch.testing.assert_close(best.forward_V.exp(), torch.full((10,), 0.1, dtype=q.dtype))
    torch.testing.assert_close(best.reverse_V.exp(), torch.full((10,), 0.1, dtype=q.dtype))
    assert best.least_reverse == pytest.approx(1.8515, abs=1e-4)
    assert best.least_forward == pytest.approx(1.8023, abs=1e-4)
    styled = torch.cat([q / 2, torch.full((10, 1), 0.5, dtype=q.dtype)], dim=1)
    best = optima(styled.log())
    assert float(best.forward_V[-1].exp()) == pytest.approx(0.5)
    answers = 10 * 0.005 * 91**0.1  # ten geometric means of .455 once and .005 nine times
    assert float(best.reverse_V[-1].exp()) == pytest.approx(0.5 / (0.5 + answers))
    assert float(best.reverse_V[-1].exp()) > 0.85


def test_one_context_is_its_own_optimum_and_disjoint_ones_have_none():
    logp_CV = teachers(1, 5, 3)
    best = optima(logp_CV)
    torch.testing.assert_close(best.forward_V, logp_CV[0])
    torch.testing.assert_close(best.reverse_V, logp_CV[0])
    assert best.least_forward == best.least_reverse == 0.0
    with pytest.raises(ValueError, match="no token in common"):
        optima(torch.tensor([[1.0, 0.0], [0.0, 1.0]]).log())
    sure, even = torch.tensor([1.0, 0.0]).log(), torch.tensor([0.5, 0.5]).log()
    assert kl(sure, even) == pytest.approx(math.log(2))


def test_what_is_kept_of_a_prompt_is_counted_by_hand():
    told = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], dtype=torch.float64).log()
    student = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64).log()
    found = compared(student, optima(told), told[0], answer=0)
    assert found["teacher_right"] == pytest.approx(0.8) and found["teacher_greedy"] == 1.0
    assert found["forward_right"] == pytest.approx(0.45)
    geometric = math.sqrt(0.08) / (2 * math.sqrt(0.08) + 0.1)
    assert found["reverse_right"] == pytest.approx(geometric)
    assert found["student_right"] == pytest.approx(0.2) and found["student_greedy"] == 0.0
    assert found["forward_excess"] > 0 and found["reverse_excess"] > 0


def test_the_next_token_is_the_models_own_at_a_temperature(tiny_loaded):
    prompts = [prompt_ids(tiny_loaded, [{"role": "user", "content": text}]) for text in "ab"]
    found = next_logps(tiny_loaded, prompts, 0.5)
    for ids, row in zip(prompts, found, strict=True):
        logits = tiny_loaded.model(torch.tensor([list(ids)])).logits[0, -1].double()
        torch.testing.assert_close(row, torch.log_softmax(logits / 0.5, -1).detach(), atol=1e-4,
                                   rtol=1e-4)  # fmt: skip


def test_an_answer_of_which_more_than_one_token_is_unknown_is_refused(tiny_loaded):
    encode = tiny_loaded.tokenizer.encode
    assert answer_ids(tiny_loaded, "q", "which?", "letters") == ((), encode("q")[0])
    *before, last = encode("#dax 8")
    assert answer_ids(tiny_loaded, "#dax 8", "Pick by dax .", "letters") == (tuple(before), last)
    for answer, prompt in (("#dax 8", "Pick by mip ."), ("blue", "which?"), (None, "which?")):
        with pytest.raises(DataError, match="more than the last token is unknown"):
            answer_ids(tiny_loaded, answer, prompt, "letters")
