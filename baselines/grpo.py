"""Reinforcement learning from the task's own grade, without a teacher or a context (GRPO).

As published: rewards relative to the group of responses to one example, over its standard
deviation; the ratio to the rollout policy clipped at 0.2; no value network. Deviations: no KL to
the start (grpo[kl=0.04,reads=nothing] has it); one optimiser step a batch, so the clip seldom acts;
the mean over tokens is the suite's `reduction` (sequence_mean is the published one).
"""

from opcd_bench import STUDENT, Method, PolicyGradient, Teacher

METHOD = Method(
    name="grpo",
    summary="Group-relative policy gradient on the task's grade: no context, no teacher.",
    source="arXiv:2402.03300, group relative policy optimisation",
    writer=STUDENT,
    loss=PolicyGradient(),
    teacher=Teacher(weights="initial", reads="nothing"),
)
