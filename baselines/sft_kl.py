"""Fine-tuning on told responses, held near the plain base model by 0.1 KL(student || base).

Deviations: published forms sample that KL on new responses; here it is exact, on those trained on.
Likelihood and KL are both at the temperature of the samples (sft_context says why).
"""

import opcd_bench as ob


def loss(student, base, reply_ids):  # type: ignore[no-untyped-def]
    """The likelihood and the KL; the KL is what is logged."""
    fitted = ob.token_loss(ob.named("nll"), student, None, reply_ids)
    held = ob.token_loss(ob.named("rkl_full"), student, base, reply_ids)
    return ob.TokenLoss(fitted.surrogate + 0.1 * held.surrogate, held.divergence)


SUMMARY = "As sft_context, with 0.1 times the KL to the base model without context."
SOURCE = "arXiv:2203.02155, the KL to the model before, in supervised form"
PLAIN = ob.Teacher(weights="initial", reads="nothing")
METHOD = ob.Method("sft_kl", SUMMARY, SOURCE, ob.TOLD_TEACHER, loss, PLAIN)
