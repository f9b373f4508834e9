"""Whether a suite can run a method: every refusal, with what to type, before any cell begins."""

from __future__ import annotations

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.distillation.method import Method
from opcd_bench.errors import ConfigError, InvalidLoss
from opcd_bench.rollout.engine import RAW_TEMPERATURE


def refuse_unservable(suite: Suite, method: Method) -> None:
    """Raise ConfigError or InvalidLoss for a method that needs what the suite does not have.

    What depends on a model that is not loaded yet is `refuse_for_model`'s; on a task, preflight's.
    """
    for part in method.parts:
        _refuse_larger_teacher(suite, part)
        _refuse_filtered_samples(suite, part)
        _refuse_vllm_samples(suite, part)
        if suite.teacher_engine == "vllm":
            _refuse_vllm_teacher(part)
        if suite.processes > 1:
            _refuse_divided_teacher(suite, part)


def refuse_for_model(suite: Suite, method: Method, vocabulary: int) -> None:
    """Raise InvalidLoss where the loss's k exceeds the vocabulary, in tokens."""
    for part in method.parts:
        k = part.loss.k if isinstance(part.loss, Divergence) else None
        if k is not None and k > vocabulary:
            raise InvalidLoss(
                f"method {method.name!r}: k = {k} is above the vocabulary of {suite.model} "
                f"({vocabulary} tokens); lower k, or use the full vocabulary: named('rkl_full')"
            )


def _refuse_larger_teacher(suite: Suite, method: Method) -> None:
    if method.teacher.weights == "larger" and suite.teacher_model is None:
        raise ConfigError(
            f"method {method.name!r} learns from a larger teacher, and the suite names none; "
            'add --teacher-model ID_OR_FOLDER (in TOML: teacher_model = "…")'
        )


def _refuse_filtered_samples(suite: Suite, method: Method) -> None:
    if method.sampled and (suite.top_p < 1.0 or suite.top_k > 0):
        loss = method.loss
        assert isinstance(loss, Divergence | PolicyGradient)
        why = "" if loss.on_policy_only else ", whatever its importance weight"
        raise InvalidLoss(
            f"method {method.name!r}: {loss.id} needs responses sampled from the "
            f"student's whole distribution, but the suite filters them (top_p = {suite.top_p}, "
            f"top_k = {suite.top_k}), which biases the gradient{why}; add --set top_p=1.0 --set "
            "top_k=0"
        )


def _refuse_vllm_samples(suite: Suite, method: Method) -> None:
    weighted = (
        isinstance(method.loss, Divergence | PolicyGradient) and method.loss.importance_weight
    )
    if suite.engine == "vllm" and suite.temperature != RAW_TEMPERATURE and weighted:
        raise InvalidLoss(
            f"method {method.name!r}: its importance weight needs the rollout policy's "
            f"log-probabilities at temperature = {suite.temperature:g}, but vLLM gives them at "
            "1. Set temperature = 1, or engine = 'hf'"
        )


def _refuse_divided_teacher(suite: Suite, method: Method) -> None:
    """A teacher that several processes cannot hold together."""
    weights = method.teacher.weights
    averaged = weights == "ema" and suite.lora_rank is not None
    if method.needs_teacher and (weights == "adapted" or averaged):
        raise ConfigError(
            f"method {method.name!r}: its teacher has weights = {weights!r}"
            + (f" of an adapter (lora_rank = {suite.lora_rank})" if averaged else "")
            + f", which processes = {suite.processes} cannot divide among them; add --processes 1, "
            "or leave the method out"
        )


def _refuse_vllm_teacher(method: Method) -> None:
    """A teacher that vLLM cannot be: one that moves, whose rows do, or whose logits are read."""
    loss, teacher = method.loss, method.teacher
    if isinstance(loss, PolicyGradient) and not method.needs_teacher:
        return
    if not isinstance(loss, Divergence):
        raise InvalidLoss(
            f"method {method.name!r}: its loss reads the teacher's logits, which vLLM does not "
            "give. Use teacher_engine = 'hf'"
        )
    if not method.needs_teacher:
        return
    if teacher.weights in ("ema", "live", "adapted") or teacher.rows == "shuffled":
        what = f"weights = {teacher.weights!r}" if teacher.rows == "aligned" else "shuffled rows"
        raise InvalidLoss(
            f"method {method.name!r}: a teacher with {what} is read in this process; use "
            "teacher_engine = 'hf'"
        )
