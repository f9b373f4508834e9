"""A loss as a teacher that gives less than its whole distribution serves it, or why it cannot."""

from __future__ import annotations

import dataclasses

from opcd_bench.distillation.losses.coordinates import CHOICES
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.rules import is_number
from opcd_bench.errors import InvalidLoss

TIERS = {"none": 0, "Y": 1, "T": 2, "I": 3, "F": 4, "H": 4}
"""What teachers give, each all that the one before it does; `served` says what."""


def served(
    loss: Divergence,
    tier: str,
    *,
    missing_ids: str | None = None,
    temperature: float = 1.0,
    max_logprobs: int | None = None,
) -> Divergence:
    """The loss as a teacher of ``tier`` serves it; InvalidLoss with the reason and what would do.

    Tiers: ``Y`` log-probs of the written token; ``T`` the teacher's own top-k list, with ``Y``;
    ``I`` log-probs at any asked ids, with ``T``; ``F`` logits (``H``, hidden states with the head,
    counts as ``F``); ``none`` no teacher. ``missing_ids`` stands in for the loss's own policy on
    ids that the list lacks, and the loss that comes back has it where it is needed; ``temperature``
    is the loss's, while lists are at 1; ``max_logprobs`` is the server's cap on a list.
    """
    if tier not in TIERS:
        raise InvalidLoss(f"teacher tier {tier!r} is unknown. Write one of {', '.join(TIERS)}.")
    if not (is_number(temperature) and temperature > 0):
        raise InvalidLoss(f"teacher temperature {temperature!r} must be a number above 0.")
    policy = loss.missing_ids if missing_ids is None else missing_ids
    _check_policy(loss, policy)
    whole = TIERS[tier] >= TIERS["F"] or loss.teacher_needs == "none"
    renormalised = loss.outside in ("renormalise", "renormalise_teacher")
    cold = temperature != 1.0 and not whole and not renormalised
    if TIERS[tier] < TIERS[loss.teacher_needs]:
        if (tier, loss.teacher_needs) != ("T", "I") or policy == "refuse":
            at_one = " It also needs temperature = 1: a list's log-probs are at 1." if cold else ""
            raise InvalidLoss(
                f"loss {loss.id} needs a teacher of tier {loss.teacher_needs} and this one is of "
                f"tier {tier}: {_INSTEAD[loss.teacher_needs]}{at_one}"
            )
        loss = dataclasses.replace(loss, missing_ids=policy)  # type: ignore[arg-type]
    if cold:
        raise InvalidLoss(
            f"loss {loss.id} at temperature = {temperature:g} from a list of log-probs at "
            "temperature 1: tempered probabilities need the sum over the whole vocabulary, which a "
            "list lacks; only a renormalised support does without it. Set temperature = 1, or use "
            "teacher_engine = 'hf', or a renormalised loss (opcd_renorm)"
        )
    if not whole and max_logprobs is not None and loss.k is not None and loss.k > max_logprobs:
        raise InvalidLoss(
            f"k={loss.k} is above the server's max_logprobs={max_logprobs}: the list would be cut. "
            f"Write k={max_logprobs} or less, or start the server with a larger max_logprobs."
        )
    return loss


_INSTEAD = {
    "F": "it needs the teacher's whole distribution, and a list of log-probs is not one. Use "
    "teacher_engine = 'hf', or a loss on the teacher's top-k (forward_kl, opcd_hybrid)",
    "I": "it sums over the student's likeliest ids, and the list has the teacher's own alone. Use "
    "teacher_engine = 'hf', a loss on the teacher's top-k (forward_kl, opcd_hybrid), or name what "
    "becomes of the ids that the list lacks: missing_ids = 'drop' or 'floor'.",
    "T": "use support='sampled', or a teacher that returns its top-k",
    "Y": "use a teacher that returns the log-prob of given tokens",
}
"""What to type where the teacher gives less than the loss needs."""


def _check_policy(loss: Divergence, policy: str) -> None:
    if policy not in CHOICES["missing_ids"]:
        raise InvalidLoss(
            f"missing_ids={policy!r}: an absent id is dropped or given the smallest log-prob of "
            "the teacher's k likeliest, never the student's own (that sets the log-ratio to 0 "
            "exactly where the teacher disagrees). Write 'refuse', 'drop' or 'floor'."
        )
    if policy == "floor" and loss.outside in ("tail", "sampled"):
        raise InvalidLoss(
            f"missing_ids='floor' with outside={loss.outside!r}: the fills inflate the teacher's "
            "mass on the support, so the rest is not its tail. Write missing_ids='drop'."
        )
