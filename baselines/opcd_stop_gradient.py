"""On-policy context distillation without the truncated sum's leak of probability mass."""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="opcd_stop_gradient",
    summary="As opcd, with the student's log-prob detached: no mass leaks out of the top-256.",
    source="arXiv:2605.11182, stop-gradient top-k",
    writer=STUDENT,
    loss=named("rkl_trunc_sg", support="student_top_k", k=256),
    teacher=Teacher(weights="initial", reads="context"),
)
