"""The processes that compute one cell together: who they are, and what they say to each other."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

WAITING = datetime.timedelta(days=365)
"""How long processes wait for the first one, which may be evaluating."""

_VARIABLES = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
    "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE",
)  # fmt: skip
"""What torchrun tells a process. lm-eval and accelerate would go by it, and wait for the others."""

_HERE: list[Peers] = []


@dataclass(frozen=True)
class Peers:
    """One process among ``size``, each of which has a device of its own in ``mesh``.

    The first leads: it alone writes, prints and evaluates. ``talk`` is the group for all that is
    no tensor, over gloo, in which one may wait for as long as it takes.
    """

    rank: int
    size: int
    device: torch.device
    mesh: DeviceMesh
    talk: dist.ProcessGroup

    @property
    def first(self) -> bool:
        """Whether this process leads."""
        return self.rank == 0

    def tell(self, message: Any) -> None:
        """Say something to all others, who `hear` it."""
        dist.broadcast_object_list([message], src=0, group=self.talk)

    def hear(self) -> Any:
        """What the first process says next."""
        said: list[Any] = [None]
        dist.broadcast_object_list(said, src=0, group=self.talk)
        return said[0]

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, by rank, in every process."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.talk)
        return found

    def summed(self, *numbers: Mapping[str, float]) -> list[dict[str, float]]:
        """Each mapping with its values summed over the processes, in the order of their ranks."""
        totals: list[dict[str, float]] = [{} for _ in numbers]
        for theirs in self.gather(numbers):
            for total, mapping in zip(totals, theirs, strict=True):
                for key, value in mapping.items():
                    total[key] = total.get(key, 0) + value
        return totals


def current() -> Peers | None:
    """The processes that compute together with this one; None where it is alone."""
    return _HERE[0] if _HERE else None


def join(device: str) -> Peers:
    """Meet the processes that torchrun started with this one, and hide from all else that it did.

    ``device``: ``cpu``, ``cuda`` or ``auto``. Gloo on CPUs, and NCCL between GPUs.
    """
    assert not _HERE, "a process has one set of peers"
    local = int(os.environ["LOCAL_RANK"])
    gpu = device != "cpu" and torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    kind = "cuda" if gpu else "cpu"
    talk = dist.new_group(backend="gloo", timeout=WAITING)
    assert talk is not None
    where = torch.device(kind, local) if gpu else torch.device(kind)
    _HERE.append(Peers(rank, size, where, init_device_mesh(kind, (size,)), talk))
    for name in _VARIABLES:
        os.environ.pop(name, None)
    return _HERE[0]


def part() -> None:
    """Leave the others."""
    if _HERE:
        _HERE.clear()
        dist.destroy_process_group()
