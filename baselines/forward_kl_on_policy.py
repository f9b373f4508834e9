"""A corner of the factorial: forward KL, but on the student's own replies."""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="forward_kl_on_policy",
    summary="As forward_kl, on the plain student's replies: only the writer changes.",
    source="arXiv:2306.13649, the on-policy forward KL",
    writer=STUDENT,
    loss=named("fkl_trunc", support="teacher_top_k", k=256),
    teacher=Teacher(weights="initial", reads="context"),
)
