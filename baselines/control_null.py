"""Null control: a teacher that is told nothing has nothing to teach."""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="control_null",
    summary="As opcd, with a teacher that is told nothing: accuracy must not move beyond noise.",
    source="a control of this benchmark",
    writer=STUDENT,
    loss=named("rkl_trunc_naive", support="student_top_k", k=256),
    teacher=Teacher(weights="initial", reads="nothing"),
    control=True,
)
