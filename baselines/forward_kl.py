"""Off-policy context distillation: forward KL along the told teacher's replies."""

from opcd_bench import TOLD_TEACHER, Method, Teacher, named

METHOD = Method(
    name="forward_kl",
    summary="Forward KL on the told teacher's replies, over the teacher's top-256.",
    source="arXiv:2602.12275, the baseline 'context distillation'",
    writer=TOLD_TEACHER,
    loss=named("fkl_trunc", support="teacher_top_k", k=256),
    teacher=Teacher(weights="initial", reads="context"),
)
