"""The best that a student without context can do against told teachers, at an answer's last token.

Each prompt is told one of several contexts, which nothing in it gives away. Over them the mean
forward KL is least at the arithmetic mean of the teachers' distributions, and the mean reverse KL
at their normalised geometric mean; both losses are that least value and a KL to the optimum.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opcd_bench.errors import DataError
from opcd_bench.evaluation.continuations import Continuation, logps
from opcd_bench.models.loaded import LoadedModel

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Optima:
    """Of teachers' distributions: log-probs of both optima, and the least value of each loss.

    ``forward_V`` minimises the mean of KL(q_c || p), ``reverse_V`` that of KL(p || q_c); in nats.
    """

    forward_V: Tensor
    reverse_V: Tensor
    least_forward: float
    least_reverse: float


def optima(teacher_logp_CV: Tensor) -> Optima:
    """Both optima over contexts C, all equally likely, from normalised log-probs.

    Raises ValueError where no token has a probability under every teacher: then every reverse KL
    is infinite, and no student is best.
    """
    logp_CV = teacher_logp_CV.double()
    forward_V = torch.logsumexp(logp_CV, dim=0) - math.log(len(logp_CV))
    mean_V = logp_CV.mean(dim=0)
    log_z = torch.logsumexp(mean_V, dim=0)
    if not torch.isfinite(log_z):
        raise ValueError("the teachers have no token in common, so every reverse KL is infinite")
    least = sum(kl(one_V, forward_V) for one_V in logp_CV) / len(logp_CV)
    return Optima(forward_V, mean_V - log_z, max(least, 0.0), max(-float(log_z), 0.0))


def kl(of_V: Tensor, against_V: Tensor) -> float:
    """KL(of || against) in nats, from log-probs; what has no probability under ``of`` counts 0."""
    of_V, against_V = of_V.double(), against_V.double()
    there_V = of_V > -math.inf
    terms_V = of_V.exp() * (of_V - against_V)
    return float(terms_V[there_V].sum())


def next_logps(
    loaded: LoadedModel, prompts: Sequence[tuple[int, ...]], temperature: float
) -> Tensor:
    """Log-probs of the token after each prompt, at a temperature; shape (prompts, V), float64."""
    one = [Continuation("", ids, (0,)) for ids in prompts]
    rows = [found_TV[0].double() / temperature for found_TV in logps(loaded, one)]
    return torch.log_softmax(torch.stack(rows), dim=-1).cpu()


def answer_ids(
    loaded: LoadedModel, answer: str | None, prompt: str, task: str
) -> tuple[tuple[int, ...], int]:
    """The tokens of an answer before its last, and the last, of which optima are computed.

    Those before must stand in the prompt, so that they are the same under every context: then the
    optimum of the last token is that of the whole answer. DataError where they do not.
    """
    ids = [] if answer is None else loaded.tokenizer.encode(answer, add_special_tokens=False)
    before = str(loaded.tokenizer.decode(ids[:-1]))
    if not ids or not set(_WORD.findall(before)) <= set(_WORD.findall(prompt)):
        raise DataError(
            f"task {task!r}: of the answer {answer!r} more than the last token is unknown to "
            f"{loaded.name!r} without a context, and exact optima are computed for one token. Use "
            "a task of such answers (rule_choice), and a model whose tokenizer has them whole"
        )
    return tuple(map(int, ids[:-1])), int(ids[-1])


def compared(student_V: Tensor, best: Optima, own_V: Tensor, answer: int) -> dict[str, float]:
    """What is kept of one prompt, as numbers.

    ``forward_excess`` and ``reverse_excess``: KLs between the student and the optima, which is by
    how much its losses are above ``least_forward`` and ``least_reverse``. Probability of the right
    answer, and whether it is the likeliest token, under the ``teacher`` told this prompt's own
    context (``own_V``), the ``forward`` and ``reverse`` optimum and the ``student``.
    """
    found = {
        "least_forward": best.least_forward,
        "least_reverse": best.least_reverse,
        "forward_excess": kl(best.forward_V, student_V),
        "reverse_excess": kl(student_V, best.reverse_V),
    }
    for name, logp_V in (
        ("teacher", own_V),
        ("forward", best.forward_V),
        ("reverse", best.reverse_V),
        ("student", student_V),
    ):
        found[f"{name}_right"] = float(logp_V[answer].exp())
        found[f"{name}_greedy"] = float(int(logp_V.argmax()) == answer)
    return found
