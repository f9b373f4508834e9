"""Losses read in blocks against plain expressions under autograd, and what they keep alive."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_checks import FULL, build, quick
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from opcd_bench.distillation.losses import diagnostics, logits
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.functional import from_support, token_loss
from opcd_bench.distillation.losses.logits import LOG_PROB_FLOOR

TOP_K = ("rkl_trunc_sg", "rkl_gen", "rkl_tail", "rkl_renorm", "fkl_gen", "fkl_tail", "rkl_hybrid")
NAIVE = ("rkl_trunc_naive", "fkl_trunc", "fkl_renorm", "fkl_renormT", "jsd_tail", "skew_r_renorm")
SAMPLED = ("k2_loss", "k3_loss", "pg_k1", "bern_tail", "nll")
COMMON = (*FULL, *TOP_K, *NAIVE, *SAMPLED)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def loss_of(id, k):
    return build(id, "student_top_k", k) if id in TOP_K + NAIVE else build(id)


def plain(id, loss, student, teacher, reply):
    """The surrogate as its definition says, on whole distributions, for autograd."""
    logp, logq = student.log_softmax(-1), teacher.log_softmax(-1).clamp(min=LOG_PROB_FLOOR)
    logp = torch.where(logp < -1e4, LOG_PROB_FLOOR, logp)
    own, told = (x.gather(-1, reply[:, None])[:, 0] for x in (logp, logq))
    ratio = own - told
    if id in ("nll", "k2_loss", "k3_loss", "pg_k1"):
        return {
            "nll": -own,
            "k2_loss": ratio.square() / 2,
            "k3_loss": torch.expm1(-ratio) + ratio,
            "pg_k1": ratio.detach() * own,
        }[id]
    if loss.support == "full":
        inside = torch.ones_like(logp, dtype=torch.bool)
    else:
        ids = reply[:, None] if loss.support == "sampled" else student.topk(loss.k).indices
        inside = torch.zeros_like(logp, dtype=torch.bool).scatter(-1, ids, True)
    logs = [logp.masked_fill(~inside, -1e4), logq.masked_fill(~inside, -1e4)]
    if loss.outside == "tail":
        outs = [student.masked_fill(inside, -math.inf), teacher.masked_fill(inside, -math.inf)]
        full = inside.all(-1)
        for i, (left, whole) in enumerate(zip(outs, (student, teacher), strict=True)):
            left = torch.where(full[:, None], 0.0, left).logsumexp(-1) - whole.logsumexp(-1)
            floor = left.clamp(min=LOG_PROB_FLOOR) if i else torch.where(left < -1e4, -100.0, left)
            logs[i] = torch.cat([logs[i], torch.where(full, -100.0, floor)[:, None]], -1)
    for i, one in enumerate(logs):
        if loss.outside == "renormalise" or (loss.outside == "renormalise_teacher" and i):
            logs[i] = (one - one.logsumexp(-1, keepdim=True)).masked_fill(~inside, -1e4)
    logp, logq = logs
    p, q = logp.exp(), logq.exp()
    generalised = loss.outside == "generalised"
    if loss.direction == "reverse_kl":
        ratio_V = logp - logq
        terms = p * (ratio_V.detach() if loss.gradient == "stop_gradient" else ratio_V)
        terms = terms - p + q if generalised else terms
    elif loss.direction == "forward_kl":
        terms = q * (logq - logp)
        terms = terms - q + p if generalised else terms
    else:
        weight = {"jsd": loss.beta, "skew_forward": loss.alpha}.get(loss.direction)
        weight = 1 - loss.alpha if weight is None else weight
        mixed = torch.logaddexp(logq + math.log(weight), logp + math.log1p(-weight))
        ours, theirs = p * (logp - mixed), q * (logq - mixed)
        terms = {
            "jsd": lambda: loss.beta * theirs + (1 - loss.beta) * ours,
            "skew_forward": lambda: theirs,
            "skew_reverse": lambda: ours,
        }[loss.direction]()
    value = terms.sum(-1)
    if loss.outside == "sampled":
        value = value + ~inside.gather(-1, reply[:, None])[:, 0] * ratio.detach() * own
    return value


def check(id, loss, student, teacher, reply, tolerance):
    """Value and gradient, with weights that differ by row; what is plain is plain in float64."""
    weight = torch.linspace(-1, 2, len(student))
    found, wanted = [], []
    for results, compute, logits_NV in (
        (found, lambda z: token_loss(loss, z, teacher, reply).surrogate, student),
        (wanted, lambda z: plain(id, loss, z, teacher.double(), reply), student.double()),
    ):
        z = logits_NV.clone().requires_grad_(True)
        value = compute(z)
        results += [value.detach(), torch.autograd.grad((value * weight).sum(), z)[0]]
    for a, b in zip(found, wanted, strict=True):
        atol = tolerance * (1 + float(b.abs().max()))
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=atol)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("id", COMMON)
@quick
@given(
    seed=st.integers(0, 2**16),
    vocabulary=st.integers(3, 40),
    scale=st.sampled_from([0.3, 3.0, 15.0]),
    share=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_value_and_gradient_are_those_of_the_plain_expression(
    id, dtype, seed, vocabulary, scale, share
):
    """From nearly flat to extreme logits, and from k = 2 to k = V."""
    draw = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(2, 5, vocabulary, generator=draw) * scale).to(dtype)
    reply = torch.randint(vocabulary, (5,), generator=draw)
    if id in ("k2_loss", "k3_loss"):  # e^(-l) and l^2 of unbounded ratios have no digits to compare
        student, teacher = student.clamp(-8, 8), teacher.clamp(-8, 8)
    k = max(2, round(share * vocabulary))
    check(id, loss_of(id, k), student, teacher, reply, TOLERANCE[dtype])


@pytest.mark.parametrize("mask", [-math.inf, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("id", COMMON)
def test_masked_ids_have_the_gradient_of_the_plain_expression(id, mask):
    """In either model or both; the written token is masked in none."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 12).double()
    student[:, 9:11], teacher[:, 10:] = mask, mask
    reply = torch.arange(6)
    for k in (3, 9):
        check(id, loss_of(id, k), student, teacher, reply, 1e-10)


@pytest.mark.parametrize("id", COMMON)
def test_blocks_of_rows_are_as_good_as_all_at_once(id, monkeypatch):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 7, 33).double()
    reply, loss = torch.randint(33, (7,)), loss_of(id, 5)

    def values():
        z = student.clone().requires_grad_(True)
        out = diagnostics.measured(loss, z, teacher, reply)
        (pulled,) = torch.autograd.grad(out.loss.surrogate.sum(), z)
        return [pulled, *out.loss, out.reply_logp, *out.metrics.values()]

    whole = values()
    monkeypatch.setattr(logits, "_CPU_WORDS", 1)
    for a, b in zip(values(), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("id", COMMON)
def test_one_reading_gives_what_the_loss_and_the_metrics_give_apart(id):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 50).double()
    reply, loss = torch.randint(50, (2, 3)), loss_of(id, 5)
    found = diagnostics.measured(loss, student.requires_grad_(True), teacher, reply)
    coordinates = named("rkl_full") if id == "nll" else loss
    metrics = diagnostics.support_metrics(student, teacher, coordinates, reply)._asdict()
    apart = {name: value for name, value in metrics.items() if value is not None}
    assert set(metrics) - set(apart) <= {"signal"}
    apart["reverse_kl"] = token_loss(named("rkl_full"), student, teacher, reply).divergence
    assert set(found.metrics) == set(apart)
    for name, value in found.metrics.items():
        torch.testing.assert_close(value, apart[name], rtol=1e-12, atol=1e-12)
        assert not value.requires_grad
    out = token_loss(loss, student, teacher, reply)
    torch.testing.assert_close(found.loss.surrogate, out.surrogate)
    torch.testing.assert_close(found.loss.divergence, out.divergence)
    logp = student.detach().log_softmax(-1).gather(-1, reply[..., None])[..., 0]
    torch.testing.assert_close(found.reply_logp, logp)


@pytest.mark.parametrize("id", ["rkl_full", "jsd_b", "rkl_tail", "nll"])
def test_a_second_derivative_is_refused(id):
    z = torch.randn(2, 9, requires_grad=True)
    out = token_loss(loss_of(id, 3), z, torch.randn(2, 9), torch.tensor([1, 2])).surrogate
    with pytest.raises(RuntimeError, match="leave out create_graph=True"):
        torch.autograd.grad(out.sum(), z, create_graph=True)


@pytest.mark.parametrize("id", ["rkl_full", "rkl_tail", "nll"])
def test_a_kept_graph_gives_the_same_gradient_twice(id):
    z = torch.randn(2, 9, requires_grad=True)
    out = token_loss(loss_of(id, 3), z, torch.randn(2, 9), torch.tensor([1, 2])).surrogate.sum()
    first = torch.autograd.grad(out, z, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(out, z)[0])


@quick
@given(seed=st.integers(0, 2**16), k=st.integers(1, 30), vocabulary=st.integers(30, 3000))
def test_the_likeliest_ids_are_those_of_a_whole_ranking(seed, k, vocabulary):
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(4, vocabulary + 7, generator=draw)[:, :vocabulary]  # as a head's are cut
    rows[1] = rows[1].round()  # ties
    rows[2, k:] = -math.inf
    found = logits.likeliest(rows, k)
    assert all(len(set(row)) == k for row in found.tolist())
    wanted = rows.topk(k).values
    assert torch.equal(rows.gather(-1, found).sort(descending=True).values, wanted)


def test_a_nan_is_among_the_likeliest():
    rows = torch.randn(1, 5000)
    rows[0, 3210] = math.nan
    assert 3210 in logits.likeliest(rows, 5)


# -- memory ---------------------------------------------------------------------------------------


class Alive(TorchDispatchMode):
    """The most bytes, in units, that large tensors made under it held at one time."""

    def __init__(self, unit):
        super().__init__()
        self.unit, self.most, self._held = unit, 0.0, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if is_tensor(t)}
        for tensor in filter(is_tensor, tree_leaves(out)):
            storage = tensor.untyped_storage()
            if storage._cdata not in given and storage.nbytes() >= self.unit // 8:
                self._held[storage._cdata] = (storage._weak_ref(), storage.nbytes())
        alive = {
            key: (weak, size)
            for key, (weak, size) in self._held.items()
            if not torch.UntypedStorage._expired(weak)
        }
        self._held = alive
        self.most = max(self.most, sum(size for _, size in alive.values()) / self.unit)
        return out


def is_tensor(value):
    return isinstance(value, torch.Tensor)


@pytest.mark.parametrize("id", COMMON)
def test_no_more_than_one_copy_of_the_logits_is_alive_beside_the_two_models(id, monkeypatch):
    """The gradient; all else as wide as the vocabulary lives for a block of rows."""
    monkeypatch.setattr(logits, "_CPU_WORDS", 4096)
    torch.manual_seed(0)
    student, teacher = torch.randn(200, 4096, requires_grad=True), torch.randn(200, 4096)
    reply, loss = torch.randint(4096, (200,)), loss_of(id, 8)
    with Alive(student.nbytes) as alive:
        out = diagnostics.measured(loss, student, teacher, reply)
        assert alive.most < 0.2, "the pass forward keeps no copy at all"
        torch.autograd.grad(out.loss.surrogate.sum(), student)
    assert 1.0 <= alive.most < 1.2


def test_a_listed_teacher_costs_no_more(monkeypatch):
    monkeypatch.setattr(logits, "_CPU_WORDS", 4096)
    torch.manual_seed(0)
    student = torch.randn(200, 4096, requires_grad=True)
    logp, ids = torch.randn(200, 4096).log_softmax(-1).topk(8)
    reply = torch.randint(4096, (200,))
    loss = build("rkl_tail", "teacher_top_k", 8)
    with Alive(student.nbytes) as alive:
        out = from_support(loss, student, ids, logp, reply)
        torch.autograd.grad(out.surrogate.sum(), student)
    assert 1.0 <= alive.most < 1.2
