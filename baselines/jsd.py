"""Between the two directions: the Jensen-Shannon divergence on the student's replies."""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="jsd",
    summary="Jensen-Shannon divergence, half and half, on the plain student's replies.",
    source="arXiv:2306.13649, generalised JSD with beta = 0.5",
    writer=STUDENT,
    loss=named("jsd_b", beta=0.5),
    teacher=Teacher(weights="initial", reads="context"),
)
