"""What a distillation loss is: its coordinates, checked and named, without importing torch.

A loss name in the wild welds several choices together. `Divergence` spells them out, refuses the
combinations that are wrong by construction and derives the name; `named` goes the other way.
Sources: arXiv 2602.12275 (on-policy context distillation), arXiv 2605.11182 (the truncated
variants and their failure), arXiv 2306.13649 (JSD with a weight), arXiv 2402.03898 (skew KL), arXiv
2501.16937 (interpolated).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from opcd_bench.distillation.losses.coordinates import Coordinates
from opcd_bench.distillation.losses.rules import refusals
from opcd_bench.errors import InvalidLoss, UnknownName

_SHORT = {
    "reverse_kl": "rkl",
    "forward_kl": "fkl",
    "jsd": "jsd",
    "skew_forward": "skew_f",
    "skew_reverse": "skew_r",
    "interpolated": "interp",
}
_SUFFIX = {
    "generalised": "gen",
    "tail": "tail",
    "renormalise": "renorm",
    "renormalise_teacher": "renormT",
}


@dataclass(frozen=True, kw_only=True)
class Divergence(Coordinates):
    """A token-level loss between student p and teacher q: coordinates that go together, named.

    `functional.token_loss` computes it. Raises InvalidLoss from the constructor: what is wrong,
    why, and what to write instead.
    """

    def __post_init__(self) -> None:
        found = refusals(self)
        barred = [r for r in found if not (r.control and self.allow_broken)]
        if barred:
            raise InvalidLoss("this loss is refused.\n" + "\n".join(f"- {r}" for r in barred))
        for refusal in found:
            if refusal.warns:
                warnings.warn(f"{refusal.what}: {refusal.why}", stacklevel=3)

    @property
    def broken(self) -> bool:
        """Whether the loss is wrong by construction, and exists only as a positive control."""
        return bool(refusals(self))

    @property
    def id(self) -> str:
        """The derived name; `named(loss.id, **loss.options) == loss`."""
        if self.direction == "negative_log_likelihood":
            return "nll"
        short = _SHORT[self.direction]
        if self.clip is not None:
            return f"{short}_clip"
        if self.support == "sampled" and self.estimator != "exact":
            policy_gradient = self.gradient == "score_function"
            return f"pg_{self.estimator}" if policy_gradient else f"{self.estimator}_loss"
        if self.gradient == "score_function":
            return "pg_topk_scalar"
        if self.gradient == "stop_gradient_weight":
            return "rkl_sg_wrong"
        if self.outside == "sampled":
            return "rkl_hybrid"
        if self.outside == "leak":
            return "rkl_full_leak"
        stopped = self.gradient == "stop_gradient"
        if self.support == "full":
            name = "jsd_b" if self.direction == "jsd" else short
            name = f"{short}_full" if self.direction in ("reverse_kl", "forward_kl") else name
        elif self.support == "sampled":
            name = "bern_tail"
        elif self.outside == "drop":
            if self.direction == "forward_kl":
                return "fkl_trunc"
            return "rkl_trunc_sg" if stopped else "rkl_trunc_naive"
        else:
            name = f"{short}_{_SUFFIX[self.outside]}"
        return f"{name}_sg" if stopped else name

    @property
    def options(self) -> dict[str, Any]:
        """What `named(self.id, …)` must be given to build this loss again."""
        values = {name: getattr(self, name) for name in _NAMES[self.id].options}
        return {**values, "allow_broken": True} if self.broken else values

    @property
    def teacher_needs(self) -> Literal["F", "I", "T", "Y", "none"]:
        """The weakest teacher that serves it.

        `F` its logits, `I` log-probs at any ids, `T` its own top-k list together with the written
        token, `Y` the written token's log-prob, `none` no teacher.
        """
        if self.direction == "negative_log_likelihood":
            return "none"
        if self.support == "full" or self.outside == "leak" or self.baseline == "reverse_kl":
            return "F"
        if self.support == "sampled":
            return "Y"
        return "I" if self.support in ("student_top_k", "union") else "T"

    @property
    def metric(self) -> str:
        """Name of what `TokenLoss.divergence` holds, for logs and plots.

        A truncated loss logs the generalised KL on its support, never its own signed value; a
        sampled one an unbiased non-negative estimate of the reverse KL (k3).
        """
        if self.direction == "negative_log_likelihood":
            return "negative_log_likelihood"
        if self.outside == "sampled" or self.estimator != "exact":
            return "reverse_kl_estimate"
        name = {"jsd": f"jsd_{self.beta}"}.get(self.direction, self.direction)
        if self.alpha is not None:
            name = f"{name}_{self.alpha}"
        if self.support == "full" or self.outside == "leak":
            return name
        suffix = {
            "tail": "tail",
            "renormalise": "renormalised",
            "renormalise_teacher": "truncated_teacher",
        }.get(self.outside, "generalised")
        return f"{name}_{suffix}"

    @property
    def reads_reply(self) -> bool:
        """Whether the values depend on which token was written."""
        return self.support in ("sampled", "teacher_top_k_and_sampled") or (
            self.outside == "sampled" or self.gradient == "score_function"
        )

    @property
    def on_policy_only(self) -> bool:
        """Whether its meaning rests on the written token being drawn from the current student.

        With an importance weight it rests on the sampler's log-prob instead, and on the sampler
        reaching every token that the student can say: top-p and top-k sampling do not, and are
        refused for both (`Method.sampled`).
        """
        if self.importance_weight:
            return False
        return (
            self.estimator != "exact"
            or self.outside == "sampled"
            or self.gradient == "score_function"
        )

    def describe(self) -> dict[str, Any]:
        """Return the name, every coordinate and the derived facts, as plain JSON values."""
        coordinates = {f.name: getattr(self, f.name) for f in fields(self) if f.compare}
        return {
            "id": self.id,
            **coordinates,
            "teacher_needs": self.teacher_needs,
            "metric": self.metric,
            "on_policy_only": self.on_policy_only,
            "broken": self.broken,
        }


class _Name(NamedTuple):
    """One id: the coordinates that it fixes, and the free ones with their defaults."""

    fixed: Mapping[str, Any]
    options: Mapping[str, Any]


_REQUIRED = object()
_STUDENT = {"support": "student_top_k", "k": _REQUIRED, "missing_ids": "refuse"}
_TEACHER = {"support": "teacher_top_k", "k": _REQUIRED, "missing_ids": "refuse"}


def _names() -> dict[str, _Name]:
    """Every id with what it fixes and what it leaves free."""
    table: dict[str, _Name] = {}

    def add(name: str, options: Mapping[str, Any], **fixed: Any) -> None:
        table[name] = _Name(fixed, options)

    mixtures: dict[str, dict[str, Any]] = {
        "jsd": {"beta": _REQUIRED},
        "skew_forward": {"alpha": _REQUIRED},
        "skew_reverse": {"alpha": _REQUIRED},
        "interpolated": {"alpha": _REQUIRED},
    }
    add("rkl_full", {}, direction="reverse_kl")
    add("rkl_full_sg", {}, direction="reverse_kl", gradient="stop_gradient")
    add("fkl_full", {}, direction="forward_kl")
    for direction, free in mixtures.items():
        short = _SHORT[direction]
        add("jsd_b" if direction == "jsd" else short, free, direction=direction)
        for outside in ("tail", "renormalise"):
            options = {**_STUDENT, **free}
            add(f"{short}_{_SUFFIX[outside]}", options, direction=direction, outside=outside)
    for name, gradient in (("naive", "through"), ("sg", "stop_gradient")):
        add(
            f"rkl_trunc_{name}",
            _STUDENT,
            direction="reverse_kl",
            outside="drop",
            gradient=gradient,
        )
    for outside in ("generalised", "tail", "renormalise"):
        add(f"rkl_{_SUFFIX[outside]}", _STUDENT, direction="reverse_kl", outside=outside)
    for outside in ("tail", "renormalise"):
        add(
            f"rkl_{_SUFFIX[outside]}_sg",
            _STUDENT,
            direction="reverse_kl",
            outside=outside,
            gradient="stop_gradient",
        )
    add(
        "rkl_sg_wrong",
        {**_STUDENT, "k": None, "outside": "drop"},
        direction="reverse_kl",
        gradient="stop_gradient_weight",
    )
    add("fkl_trunc", _TEACHER, direction="forward_kl", outside="drop")
    for outside in ("generalised", "tail", "renormalise", "renormalise_teacher"):
        add(f"fkl_{_SUFFIX[outside]}", _TEACHER, direction="forward_kl", outside=outside)
    sampled = {"direction": "reverse_kl", "support": "sampled"}
    weights = {"baseline": 0.0, "importance_weight": False}
    for k in ("k1", "k2", "k3"):
        add(f"{k}_loss", {}, **sampled, estimator=k)
        add(f"pg_{k}", weights, **sampled, estimator=k, gradient="score_function")
    add(
        "pg_topk_scalar",
        {**_STUDENT, "k": None, "outside": "drop"},
        direction="reverse_kl",
        gradient="score_function",
    )
    add(
        "rkl_hybrid",
        {**_TEACHER, "importance_weight": False},
        direction="reverse_kl",
        outside="sampled",
        gradient="stop_gradient",
    )
    leaking = {"support": "student_top_k", "k": _REQUIRED}
    add("rkl_full_leak", leaking, direction="reverse_kl", outside="leak")
    add("bern_tail", {}, **sampled, outside="tail")
    add("bern_tail_sg", {}, **sampled, outside="tail", gradient="stop_gradient")
    for short in ("rkl", "fkl"):
        direction = "reverse_kl" if short == "rkl" else "forward_kl"
        add(f"{short}_clip", {"clip": _REQUIRED}, direction=direction)
    add("nll", {}, direction="negative_log_likelihood", support="sampled")
    return table


_NAMES = _names()


def loss_ids() -> tuple[str, ...]:
    """Every id that `named` knows, in alphabetical order."""
    return tuple(sorted(_NAMES))


def named(id: str, /, **options: Any) -> Divergence:
    """Build a loss from its short name, e.g. `named("rkl_tail", k=20, support="student_top_k")`.

    Raises:
        UnknownName: no such id, or no such option for it, with the nearest ones.
        InvalidLoss: an option is missing, or the combination is refused.

    """
    if id not in _NAMES:
        raise UnknownName("loss", id, _NAMES)
    entry = _NAMES[id]
    for option in options:
        if option not in entry.options and option != "allow_broken":
            raise UnknownName(
                "option", option, [*entry.options, "allow_broken"], where=f"of loss {id!r}"
            )
    values = {**entry.options, **options}
    absent = [name for name, value in values.items() if value is _REQUIRED]
    if absent:
        example = ", ".join(f"{n}={256 if n == 'k' else 0.5}" for n in absent)
        raise InvalidLoss(f"loss {id} needs {', '.join(absent)}. Write named({id!r}, {example}).")
    if values.get("support") in ("full", "sampled") and "outside" in entry.options:
        if "outside" not in options:  # a control on the whole vocabulary has nothing outside
            values["outside"] = "none"
    loss = Divergence(**{**entry.fixed, **values})
    if loss.id != id:
        raise InvalidLoss(f"{id} with {options} is another loss: write named({loss.id!r}, …).")
    return loss
