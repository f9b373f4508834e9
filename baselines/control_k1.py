"""Positive control: a loss whose expected gradient has no teacher in it."""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="control_k1",
    summary="The sampled log-ratio differentiated directly: broken by construction, must not help.",
    source="released code of arXiv:2605.11182, mode token_reverse_kl",
    writer=STUDENT,
    loss=named("k1_loss", allow_broken=True),
    teacher=Teacher(weights="initial", reads="context"),
    control=True,
)
