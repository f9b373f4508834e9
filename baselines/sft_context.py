"""Supervised fine-tuning on what the told teacher wrote."""

from opcd_bench import TOLD_TEACHER, Method, Teacher, named

METHOD = Method(
    name="sft_context",
    summary="Cross-entropy on the told teacher's own replies: the oldest way.",
    source="arXiv:2209.15189",
    writer=TOLD_TEACHER,
    loss=named("nll"),
    teacher=Teacher(weights="initial", reads="context"),
)
