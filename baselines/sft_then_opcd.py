"""A student stabilised by supervised fine-tuning, then on-policy context distillation.

As published: fine-tuning first, then distillation on the student's own responses with a
stop-gradient on its top-k. Deviations: both stages share one budget of optimiser steps (a quarter
goes to the first, begins_share changes it), one optimiser and one schedule of the learning rate.
The likelihood is at the temperature of the samples, as in sft_context.
"""

from opcd_bench import STUDENT, TOLD_TEACHER, Method, Stage, Teacher, named

METHOD = Method(
    name="sft_then_opcd",
    summary="sft_context for a quarter of the steps, then opcd_stop_gradient.",
    source="arXiv:2605.11182, SFT-stabilised students",
    writer=STUDENT,
    loss=named("rkl_trunc_sg", support="student_top_k", k=256),
    teacher=Teacher(weights="initial", reads="context"),
    begins=Stage(share=0.25, writer=TOLD_TEACHER, loss=named("nll")),
)
