"""What the processes of test_peers do: three steps of a tiny model, alone or sharded."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from fixtures import tiny_model, tiny_tokenizer

from opcd_bench.config.suite import make_suite
from opcd_bench.distillation import scoring
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.parallel import peers, sharding, whole
from opcd_bench.distillation.parallel.ema import ShardedEma
from opcd_bench.distillation.teachers.local import EmaTeacher, FrozenTeacher, LiveTeacher
from opcd_bench.distillation.trainer import TrainingCore
from opcd_bench.models import adapters, cpu, shards
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.loading import assemble, freeze

STEPS = 3


def suite(**values):
    base = {"methods": "opcd", "tasks": "rule_math", "learning_rate": 1e-3, "max_steps": STEPS}
    return make_suite({**base, **values}, "test")


def model(seed: int, *, tied: bool, dtype: str = "float64") -> LoadedModel:
    module = tiny_model(seed=seed, tie_word_embeddings=tied, sharpness=3.0)
    module = module.to(getattr(torch, dtype))
    assert cpu.plain(module)
    return assemble(f"tiny{seed}", module, tiny_tokenizer())


def pairs(step: int, count: int) -> list[Pair]:
    """Replies of very unequal lengths behind unequal prompts; the told ones share a beginning."""
    generator = torch.Generator().manual_seed(step)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, 250, (n,), generator=generator).tolist())

    shared = ids(60)
    return [
        Pair(f"e{i}", 0, ids(2 + i), (*shared, *ids(9 + i)), ids(1 + (7 * i) % 11 + 20 * (i == 3)))
        for i in range(count)
    ]


def loss(case: dict):
    k = {"k": case["k"], "support": "student_top_k"} if case["k"] else {}
    return named(case["loss"], **k)


def run(case: dict) -> dict:
    """The gradients of every step, and the weights after the last, of one case."""
    here = peers.current()
    settings = {"gradient_checkpointing": case["checkpointing"], "lora_rank": case["rank"]}
    asked = suite(max_grad_norm=case["clip"], micro_batch_size=case["micro_batch_size"], **settings)
    scoring.HEAD_CHUNK = case["chunk"]
    student = model(0, tied=case["tied"])
    teacher = freeze(model(1, tied=case["tied"], dtype=case["dtype"]))
    if case["rank"]:
        student = adapters.attach(student, rank=4, alpha=8, targets="all-linear", seed=0)
        for parameter in adapters.parameters(student):
            parameter.data = parameter.data.double()
        for layer in student.adapter.layers:
            torch.nn.init.normal_(
                layer.lora_B["default"].weight, generator=torch.Generator().manual_seed(1)
            )
    if here is not None:
        student, teacher = whole.divided(student, here), whole.divided(teacher, here)
    told = teacher
    if case["teacher"] == "initial":
        told = adapters.before(student)
    runtime = FrozenTeacher(told, 1.0)
    if case["teacher"] == "live":
        runtime = LiveTeacher(student, 1.0)
    elif case["teacher"] == "average":
        own = () if here is None else (here,)
        runtime = (EmaTeacher if here is None else ShardedEma)(teacher, 0.5, 1.0, *own)
    seen = []
    runtime.model.model.get_decoder().get_input_embeddings().register_forward_pre_hook(
        lambda _, given: seen.append(given[0].numel())
    )
    core = TrainingCore(student, asked, 1e-3, here)
    gradients, norms, original = [], [], core.optimiser.step

    def step():
        gradients.append([shards.gathered(p.grad).flatten().tolist() for p in core.parameters])
        original()

    core.optimiser.step = step
    for number in range(STEPS):
        report = core.step(pairs(number, case["count"]), loss(case), runtime)
        norms.append([report.grad_norm, report.divergence, report.tokens, report.replies])
    read = list(seen)
    sharding.rest(student.model) if here else None
    weights = {
        name: shards.gathered(p).flatten().tolist() for name, p in student.model.named_parameters()
    }
    return {"gradients": gradients, "norms": norms, "weights": weights, "read": read}


if __name__ == "__main__":
    cases, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    peers.join("cpu")
    found = [run(case) for case in cases]
    if peers.current().first:
        torch.save(found, out)
    peers.part()
