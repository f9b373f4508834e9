"""Null control: a teacher that is told nothing has nothing to teach.

The truncated loss itself still moves mass off its support where student and teacher agree, which
shows where much of it lies beyond the top k. ``opcd_full[reads=nothing]`` is the control without.
"""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="control_null",
    summary="As opcd, with a teacher that is told nothing: what moves is the loss's own doing.",
    source="a control of this benchmark",
    writer=STUDENT,
    loss=named("rkl_trunc_naive", support="student_top_k", k=256),
    teacher=Teacher(weights="initial", reads="nothing"),
    control=True,
)
