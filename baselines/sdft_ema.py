"""Self-distillation fine-tuning (SDFT): a moving average of the student, told a demonstration.

As published: the student's own responses, reverse KL, a teacher that is the exponential moving
average of the student. Deviations: the demonstration is the task's reference answer in one sentence
(tasks have no demonstrations); the KL is exact over the whole vocabulary; the average moves 2 % a
step whatever the suite's number of steps.
"""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="sdft_ema",
    summary="Reverse KL on the student's responses, from its moving average told the answer.",
    source="arXiv:2601.19897, self-distillation fine-tuning",
    writer=STUDENT,
    loss=named("rkl_full"),
    teacher=Teacher(weights="ema", rate=0.98, reads="reference"),
)
