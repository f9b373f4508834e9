"""Supervised fine-tuning on what a larger told teacher wrote.

Deviation: the likelihood is at the temperature of the samples, as in sft_context.
"""

from opcd_bench import TOLD_TEACHER, Method, Teacher, named

METHOD = Method(
    name="sft_context_larger",
    summary="As sft_context, on the replies of the suite's larger model, told the context.",
    source="arXiv:1606.07947, sequence-level distillation; arXiv:2209.15189, of a context",
    writer=TOLD_TEACHER,
    loss=named("nll"),
    teacher=Teacher(weights="larger", reads="context"),
)
