"""On-policy context distillation with nothing truncated."""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="opcd_full",
    summary="Reverse KL on the plain student's replies, over the whole vocabulary.",
    source="arXiv:2602.12275, Eq. 1 without its truncation",
    writer=STUDENT,
    loss=named("rkl_full"),
    teacher=Teacher(weights="initial", reads="context"),
)
