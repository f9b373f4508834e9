"""On-policy context distillation on distributions renormalised to the support."""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="opcd_renorm",
    summary="As opcd, with both distributions renormalised on the student's top-256.",
    source="arXiv:2605.11182, renormalised top-k",
    writer=STUDENT,
    loss=named("rkl_renorm", support="student_top_k", k=256),
    teacher=Teacher(weights="initial", reads="context"),
)
