"""Negative control: the right distributions at the wrong positions."""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="control_shuffled",
    summary="As opcd, with the teacher's rows shuffled among the reply positions: must not help.",
    source="a control of this benchmark",
    writer=STUDENT,
    loss=named("rkl_trunc_naive", support="student_top_k", k=256),
    teacher=Teacher(weights="initial", reads="context", rows="shuffled"),
    control=True,
)
