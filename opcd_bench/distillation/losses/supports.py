"""Log-probs of both models on the token set that a loss sums over, and on the mass outside it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.logits import LOG_PROB_FLOOR
from opcd_bench.distillation.losses.sources import FromList, FromLogits, LogProbSource, repeats
from opcd_bench.errors import InvalidLoss

EMPTY = -1e4
"""Log-prob of an unused slot: its probability is exactly 0 in both models."""


class SupportLogProbs(NamedTuple):
    """Both models on one support; X stands for the leading axes, K for the slots.

    Unused slots (duplicates, dropped ids) have `inside_XK` False and probability 0 in both models.
    """

    ids_XK: Tensor
    inside_XK: Tensor
    student_logp_XK: Tensor
    teacher_logp_XK: Tensor
    student_log_tail_X: Tensor | None
    teacher_log_tail_X: Tensor | None
    coverage_X: Tensor
    """Share of the ids that the loss asked for whose teacher log-prob is known."""
    reply_logp_X: Tensor
    """The student's log-prob of the written token."""


def log_probs_on_support(
    loss: Divergence, student: FromLogits, teacher: LogProbSource, reply_ids_X: Tensor
) -> SupportLogProbs:
    """Choose the support of a top-k or sampled loss and read both models on it.

    Raises:
        InvalidLoss: k does not fit, or the teacher lacks ids and `loss.missing_ids` is `refuse`.

    """
    with torch.no_grad():
        ids_XK, inside_XK = _choose(loss, student, teacher, reply_ids_X)
        teacher_logp_XK, known_XK = teacher.at(ids_XK)
        lacking_XK = inside_XK & ~known_XK
        asked_X = inside_XK.sum(-1)
        coverage_X = 1 - lacking_XK.sum(-1) / asked_X.clamp(min=1)
        teacher_logp_XK, inside_XK = _fill(loss, teacher, teacher_logp_XK, inside_XK, lacking_XK)
        teacher_logp_XK = torch.where(inside_XK, teacher_logp_XK, EMPTY)
    # one reading, so that one gradient as wide as the vocabulary is written
    read_XR = torch.cat([ids_XK, reply_ids_X.unsqueeze(-1)], -1)
    tails: list[Tensor | None] = [None, None]
    if loss.outside == "tail":
        beside_X1 = torch.zeros_like(read_XR[..., :1], dtype=torch.bool)
        logp_XR, tails[0] = student.at_and_tail(read_XR, torch.cat([inside_XK, beside_X1], -1))
        tails[1] = teacher.log_tail(ids_XK, inside_XK, teacher_logp_XK)
    else:
        logp_XR = student.at(read_XR).logp_XK
    own_logp_XK = torch.where(inside_XK, logp_XR[..., :-1], EMPTY)
    return SupportLogProbs(
        ids_XK,
        inside_XK,
        own_logp_XK,
        teacher_logp_XK,
        tails[0],
        tails[1],
        coverage_X,
        logp_XR[..., -1],
    )


def _choose(
    loss: Divergence, student: FromLogits, teacher: LogProbSource, reply_ids_X: Tensor
) -> tuple[Tensor, Tensor]:
    """Ids of the support, with which slots count: no id counts twice."""
    if loss.support == "sampled":
        ids_XK = reply_ids_X.unsqueeze(-1)
        return ids_XK, torch.ones_like(ids_XK, dtype=torch.bool)
    assert loss.k is not None
    if loss.support == "student_top_k":
        ids_XK = student.top_ids(loss.k)
        return ids_XK, torch.ones_like(ids_XK, dtype=torch.bool)
    if loss.support == "teacher_top_k":
        ids_XK = teacher.top_ids(loss.k)
        return ids_XK, torch.ones_like(ids_XK, dtype=torch.bool)
    if loss.support == "teacher_top_k_and_sampled":
        parts = [teacher.top_ids(loss.k), reply_ids_X.unsqueeze(-1)]
    else:
        parts = [student.top_ids(loss.k), teacher.top_ids(loss.k)]
    ids_XK = torch.cat(parts, -1).sort(dim=-1).values
    repeats_XK = repeats(ids_XK)
    return ids_XK, repeats_XK if loss.support == "intersection" else ~repeats_XK


def _fill(
    loss: Divergence, teacher: LogProbSource, logp_XK: Tensor, inside_XK: Tensor, lacking_XK: Tensor
) -> tuple[Tensor, Tensor]:
    """Apply the missing-id policy; never with anything of the student's."""
    if not isinstance(teacher, FromList) or not bool(lacking_XK.any()):
        return logp_XK, inside_XK
    if loss.missing_ids == "drop":
        return logp_XK, inside_XK & ~lacking_XK
    if loss.missing_ids == "floor":
        floor_XK = teacher.floor(loss.k).clamp(min=LOG_PROB_FLOOR).unsqueeze(-1)
        return torch.where(lacking_XK, floor_XK, logp_XK), inside_XK
    if loss.support in ("sampled", "teacher_top_k_and_sampled"):
        raise InvalidLoss(
            f"loss {loss.id} needs the teacher's log-prob of the written token, which its list "
            "lacks at some position. Pass reply_teacher_logp."
        )
    raise InvalidLoss(
        f"loss {loss.id} on support={loss.support!r} needs {int(lacking_XK.sum())} log-probs that "
        "the teacher's list lacks. Ask the teacher at those ids, or name a policy: "
        "missing_ids='drop' or 'floor'."
    )
