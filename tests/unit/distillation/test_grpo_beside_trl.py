"""GRPO beside TRL's on the same tensors: one step's loss and gradient (environment bench)."""

import types

import pytest
import torch

from opcd_bench.distillation.advantages import advantages
from opcd_bench.distillation.losses.functional import token_loss
from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.envs.task import Grade
from opcd_bench.rollout.engine import Reply
from opcd_bench.rollout.trajectory import Trajectory, TurnRecord

trl = pytest.importorskip("trl", reason="TRL is in the bench environment alone: make test-trl")

B, T, V = 6, 5, 13


class Its:
    """As much of a GRPOTrainer as its ``_compute_loss`` reads, without a model or an optimiser."""

    def __init__(self, logps, loss_type, kl, high):
        self.beta, self.epsilon_low, self.epsilon_high = kl, 0.2, high
        self.loss_type, self.importance_sampling_level = loss_type, "token"
        self.top_entropy_quantile, self.off_policy_mask_threshold = 1.0, None
        self.aux_loss_enabled, self.use_vllm, self.tools = False, False, None
        self.vllm_importance_sampling_correction = self._entropy_bonus_enabled = False
        self.max_completion_length, self.current_gradient_accumulation_steps = T, 1
        self.args = types.SimpleNamespace(
            use_bias_correction_kl=False, delta=None, num_iterations=1, max_completion_length=T
        )
        self.model = types.SimpleNamespace(training=True)
        gathered = types.SimpleNamespace(
            gather=lambda x: x, reduce=lambda x, reduction: x, num_processes=1
        )
        self.accelerator = gathered
        self._metrics = {"train": __import__("collections").defaultdict(list)}
        self.logps = logps

    def _get_per_token_logps_and_entropies(self, *_, **__):
        return self.logps, torch.zeros_like(self.logps), None

    def __getattr__(self, name):
        raise AssertionError(f"TRL's loss reads {name} now: say here what it is")


def tensors():
    g = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(B, T, V, generator=g, dtype=torch.float64)
    ids = torch.randint(V, (B, T), generator=g)
    mask = (torch.arange(T) < torch.tensor([5, 3, 4, 1, 5, 2])[:, None]).long()
    own = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    old = own + 0.4 * torch.randn(B, T, generator=g, dtype=torch.float64)
    base = (own + 0.5 * torch.randn(B, T, generator=g, dtype=torch.float64)).clamp(max=-0.05)
    return logits, ids, mask, old, base, torch.randn(B, generator=g, dtype=torch.float64)


@pytest.mark.parametrize(("loss_type", "reduction"), [("grpo", "sequence"), ("bnpo", "token")])
@pytest.mark.parametrize("kl", [0.0, 0.04])
def test_loss_and_gradient_are_those_of_trl(loss_type, reduction, kl):
    from trl import GRPOTrainer

    logits, ids, mask, old, base, worth = tensors()
    z = logits.clone().requires_grad_(True)
    logps = z.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    inputs = {
        "prompt_ids": ids[:, :1], "prompt_mask": mask[:, :1], "completion_ids": ids,
        "completion_mask": mask, "advantages": worth, "old_per_token_logps": old,
        "ref_per_token_logps": base, "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    its = GRPOTrainer._compute_loss(Its(logps, loss_type, kl, 0.28), None, inputs)
    (its_gradient,) = torch.autograd.grad(its, z)

    own = logits.clone().requires_grad_(True)
    # Log-probs of a teacher whose written tokens have ``base``, whatever its other tokens.
    teacher = base[..., None].expand(B, T, V).clone()
    rest = torch.log1p(-base.exp()) - torch.log(torch.tensor(V - 1.0, dtype=torch.float64))
    teacher = rest[..., None].expand(B, T, V).scatter(-1, ids[..., None], base[..., None])
    out = token_loss(
        PolicyGradient(clip_high=0.28, kl=kl), own, teacher, ids,
        sampler_logp=old, advantage=worth[:, None].expand(B, T),
    )  # fmt: skip
    weight = mask / mask.sum(-1, keepdim=True) / B if reduction == "sequence" else mask / mask.sum()
    ours = (out.surrogate * weight).sum()
    (our_gradient,) = torch.autograd.grad(ours, own)
    assert torch.allclose(ours, its, atol=1e-10)
    assert torch.allclose(our_gradient, its_gradient, atol=1e-10)


def test_advantages_are_those_of_trl():
    """TRL: (reward - mean of the group) / (its standard deviation + 1e-4), the sample's."""
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0]])
    mean, std = rewards.mean(1, keepdim=True), rewards.std(1, keepdim=True)
    wanted = ((rewards - mean) / (std + 1e-4)).flatten().tolist()
    turn = TurnRecord(({"role": "user", "content": "x"},), (1,), Reply((2,), (-1.0,), "x", "stop"))
    made = [
        Trajectory(f"e{group}", (turn,), Grade(float(score), None, "why"), "wrong", "")
        for group, scores in enumerate(rewards)
        for score in scores
    ]
    assert advantages(PolicyGradient(), made) == pytest.approx(wanted, abs=1e-6)
