"""Supervised fine-tuning on what the told teacher wrote.

Deviation: the likelihood is at the temperature that the replies were sampled at, not at 1 as in
other SFT trainers. Its optimum is then the told teacher itself, as that of the KL losses is; at 1
it is a sharper model, which sampling at that temperature sharpens again.
"""

from opcd_bench import TOLD_TEACHER, Method, Teacher, named

METHOD = Method(
    name="sft_context",
    summary="Cross-entropy on the told teacher's own replies: the oldest way.",
    source="arXiv:2209.15189",
    writer=TOLD_TEACHER,
    loss=named("nll"),
    teacher=Teacher(weights="initial", reads="context"),
)
