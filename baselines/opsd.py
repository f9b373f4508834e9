"""On-policy self-distillation from the reference answer (OPSD).

As published: the student's own responses, one model as student and teacher, the teacher fixed at
its first weights, forward KL over the whole vocabulary. Deviations: the teacher reads the task's
reference answer in one sentence, not a worked solution (tasks have none); no per-token clip of the
divergence, which this benchmark refuses (its terms are signed).
"""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="opsd",
    summary="Forward KL on the student's responses, from itself told the reference answer.",
    source="arXiv:2601.18734, on-policy self-distillation",
    writer=STUDENT,
    loss=named("fkl_full"),
    teacher=Teacher(weights="initial", reads="reference"),
)
