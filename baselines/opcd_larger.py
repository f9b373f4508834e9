"""On-policy context distillation across sizes: a larger model is told, and teaches."""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="opcd_larger",
    summary="As opcd, taught by the suite's larger model, told the context.",
    source="arXiv:2602.12275, a larger teacher",
    writer=STUDENT,
    loss=named("rkl_trunc_naive", support="student_top_k", k=256),
    teacher=Teacher(weights="larger", reads="context"),
)
