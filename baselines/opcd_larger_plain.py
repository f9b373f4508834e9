"""On-policy distillation from a larger model that is told nothing: size without a context."""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="opcd_larger_plain",
    summary="As opcd_larger, but its teacher is told nothing: what size alone teaches.",
    source="arXiv:2306.13649, reverse KL on the student's replies",
    writer=STUDENT,
    loss=named("rkl_trunc_naive", support="student_top_k", k=256),
    teacher=Teacher(weights="larger", reads="nothing"),
)
