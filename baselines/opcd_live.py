"""On-policy context distillation from the student itself, as it is now, told the context.

As published, Table 5: the teacher's weights are the student's at every step (no gradient goes
through it). The loss is that of `opcd`. Deviations: none that is known.
"""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="opcd_live",
    summary="As opcd, with a teacher that is the student itself at every step.",
    source="arXiv:2602.12275, Table 5, the self-teacher",
    writer=STUDENT,
    loss=named("rkl_trunc_naive", support="student_top_k", k=256),
    teacher=Teacher(weights="live", reads="context"),
)
