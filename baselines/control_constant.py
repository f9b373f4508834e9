"""Null control of rewards: every response is worth the same."""

from opcd_bench import STUDENT, Method, PolicyGradient, Teacher

METHOD = Method(
    name="control_constant",
    summary="As grpo, with the advantage 1 for every response: the expected gradient is 0.",
    source="a control of this benchmark",
    writer=STUDENT,
    loss=PolicyGradient(advantage="constant", allow_broken=True),
    teacher=Teacher(weights="initial", reads="nothing"),
    control=True,
)
