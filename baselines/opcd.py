"""On-policy context distillation, as published."""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="opcd",
    summary="Reverse KL on the plain student's replies, over the student's top-256, tail dropped.",
    source="arXiv:2602.12275, Eq. 1",
    writer=STUDENT,
    loss=named("rkl_trunc_naive", support="student_top_k", k=256),
    teacher=Teacher(weights="initial", reads="context"),
)
