"""Two processes over gloo against one: the same gradients, in float64."""

from __future__ import annotations

import json

import pytest
import torch
from peers_steps import run
from torchrun import two_processes

pytestmark = pytest.mark.cluster

USUAL = {
    "tied": True, "chunk": 4096, "count": 8, "micro_batch_size": 2, "clip": 1.0, "rank": None,
    "teacher": "frozen", "checkpointing": False, "loss": "rkl_full", "k": None,
    "dtype": "float64",
}  # fmt: skip
CASES = {
    "plain": {},
    "untied": {"tied": False},
    "small head chunks": {"chunk": 3},
    "fewer responses than processes": {"count": 1},
    "an odd number of micro-batches": {"count": 5, "micro_batch_size": 1},
    "no clip": {"clip": 0.0},
    "live teacher": {"teacher": "live"},
    "moving average": {"teacher": "average"},
    "gradient checkpointing": {"checkpointing": True},
    "top k of the student": {"loss": "rkl_tail", "k": 5},
    "adapter": {"rank": 4, "teacher": "initial"},
    "teacher in bfloat16": {"dtype": "bfloat16"},
}
ROUND_OFF = {"teacher in bfloat16": 0.03}
"""How far gradients and weights may be apart, where that is not 1e-6."""


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """What two processes found, by case."""
    folder = tmp_path_factory.mktemp("peers")
    (folder / "cases.json").write_text(json.dumps([{**USUAL, **one} for one in CASES.values()]))
    two_processes("peers_steps.py", folder / "cases.json", folder / "found.pt")
    return dict(zip(CASES, torch.load(folder / "found.pt"), strict=True))


def far(a: list, b: list) -> float:
    """The distance of two lists of numbers, over the size of the second."""
    first, second = (torch.tensor(x, dtype=torch.float64) for x in (a, b))
    return float((first - second).norm() / second.norm())


@pytest.mark.parametrize("name", CASES)
def test_two_processes_take_the_steps_of_one(name, sharded):
    case = {**USUAL, **CASES[name]}
    alone, together = run(case), sharded[name]
    near = ROUND_OFF.get(name, 1e-6)
    for own, theirs in zip(alone["gradients"], together["gradients"], strict=True):
        flat = [[x for parameter in one for x in parameter] for one in (theirs, own)]
        assert far(*flat) < near
    assert torch.allclose(
        torch.tensor(together["norms"]).double(), torch.tensor(alone["norms"]).double(), rtol=near
    )
    for weight, own in alone["weights"].items():
        assert far(together["weights"][weight], own) < near, weight


@pytest.mark.parametrize("name", sorted(set(CASES) - {"fewer responses than processes"}))
def test_the_context_that_told_prompts_share_is_read_once_by_each_process(name, sharded):
    """And not with every reply: 48 of its 60 tokens, in blocks of 16, in a pass of their own."""
    alone, together = run({**USUAL, **CASES[name]})["read"], sharded[name]["read"]
    assert alone.count(48) >= 3 and together.count(48) >= 3
    if "teacher" not in CASES[name]:  # a live one reads what the student does, too
        assert sum(together) < sum(alone)
