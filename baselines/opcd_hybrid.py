"""On-policy context distillation from a teacher that can give no more than its own top-k."""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="opcd_hybrid",
    summary="Reverse KL, exact on the teacher's top-256 and sampled outside it: unbiased.",
    source="NVIDIA-NeMo/RL pull request 3608, after arXiv:2605.11182",
    writer=STUDENT,
    loss=named("rkl_hybrid", support="teacher_top_k", k=256),
    teacher=Teacher(weights="initial", reads="context"),
)
