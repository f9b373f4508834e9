"""On-policy context distillation with the mass outside the support kept as one bucket."""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="opcd_tail",
    summary="As opcd, with everything outside the student's top-256 as one more token.",
    source="this benchmark, after arXiv:2602.12275",
    writer=STUDENT,
    loss=named("rkl_tail", support="student_top_k", k=256),
    teacher=Teacher(weights="initial", reads="context"),
)
