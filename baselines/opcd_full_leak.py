"""A causal arm: the full reverse KL, and beside it the mass gradient of the naive top-k.

The sum of `opcd` is that of `opcd_stop_gradient` plus this gradient, in which no teacher is.
"""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="opcd_full_leak",
    summary="As opcd_full, with the gradient of the student's mass on its top-256 added.",
    source="a causal arm of this benchmark, after arXiv:2605.11182, biased top-k",
    writer=STUDENT,
    loss=named("rkl_full_leak", support="student_top_k", k=256, allow_broken=True),
    teacher=Teacher(weights="initial", reads="context"),
    control=True,
)
