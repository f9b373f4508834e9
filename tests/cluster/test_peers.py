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
}


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
    for own, theirs in zip(alone["gradients"], together["gradients"], strict=True):
        flat = [[x for parameter in one for x in parameter] for one in (theirs, own)]
        assert far(*flat) < 1e-6
    assert torch.allclose(
        torch.tensor(together["norms"]).double(), torch.tensor(alone["norms"]).double(), rtol=1e-6
    )
    for weight, own in alone["weights"].items():
        assert far(together["weights"][weight], own) < 1e-6, weight
