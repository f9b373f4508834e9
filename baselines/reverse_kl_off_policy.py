"""A corner of the factorial: reverse KL, but on the told teacher's replies."""

from opcd_bench import TOLD_TEACHER, Method, Teacher, named

METHOD = Method(
    name="reverse_kl_off_policy",
    summary="As opcd, on the told teacher's replies: only the writer changes.",
    source="arXiv:2602.12275, Eq. 1 off-policy",
    writer=TOLD_TEACHER,
    loss=named("rkl_trunc_naive", support="student_top_k", k=256),
    teacher=Teacher(weights="initial", reads="context"),
)
