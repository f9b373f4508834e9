"""Temporally adaptive interpolated distillation (TAID).

As published: forward KL to a teacher seen through the student itself, whose share grows by
Algorithm 1 with the published t_start, step and momentum. Deviations: it teaches a context, so the
teacher is the student before training, told, and writes the responses; the first step, which has no
loss before it, moves the share along the line alone; one mean over the step's tokens.
"""

from opcd_bench import TOLD_TEACHER, Method, Taid, Teacher

METHOD = Method(
    name="taid",
    summary="Forward KL on told responses, to a teacher that starts near the student.",
    source="arXiv:2501.16937, Algorithm 1",
    writer=TOLD_TEACHER,
    loss=Taid(),
    teacher=Teacher(weights="initial", reads="context"),
)
