"""Off-policy context distillation across sizes: a larger model is told, writes and teaches.

As forward_kl, with the suite's larger model. Deviations: as there, the top-256 of the teacher.
"""

from opcd_bench import TOLD_TEACHER, Method, Teacher, named

METHOD = Method(
    name="forward_kl_larger",
    summary="As forward_kl, on the responses and from the logits of the suite's larger model.",
    source="arXiv:2602.12275, context distillation with a larger teacher",
    writer=TOLD_TEACHER,
    loss=named("fkl_trunc", support="teacher_top_k", k=256),
    teacher=Teacher(weights="larger", reads="context"),
)
