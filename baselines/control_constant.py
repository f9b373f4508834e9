"""Null control of rewards: every response is worth the same.

The sum of its gradients over sampled tokens is 0 on average. Their mean is not quite, since its
number of tokens was sampled too: it favours shorter responses a little.
"""

from opcd_bench import STUDENT, Method, PolicyGradient, Teacher

METHOD = Method(
    name="control_constant",
    summary="As grpo, with the advantage 1 for every response: no gain can come of it.",
    source="a control of this benchmark",
    writer=STUDENT,
    loss=PolicyGradient(advantage="constant", allow_broken=True),
    teacher=Teacher(weights="initial", reads="nothing"),
    control=True,
)
