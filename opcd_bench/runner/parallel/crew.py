"""Calls that all processes of a cell make together: the first says which, the others follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from opcd_bench.distillation.parallel import peers
from opcd_bench.errors import CellFailed, EngineDied, PeerLost, UserError

MAKE = "make"
"""What is said of a target that is made anew, in the place of one of its methods."""

_AGAIN = "Nothing is lost: type the same command again, which goes on from the last checkpoint"


class _Now:
    """Whether the first process is within such a call, and whether one has gone wrong."""

    inside = False
    broken = False


@contextmanager
def together(target: str, method: str, *arguments: Any) -> Iterator[None]:
    """A block that every process runs: the first tells the others, who call ``method`` of theirs.

    Alone, in a process that follows, and within another such block it is a block like any. What a
    UserError or CellFailed says within one holds in all processes, and they go on. Raises
    EngineDied for anything else: the others would wait for this process for ever.
    """
    here = peers.current()
    if here is None or not here.first or _Now.inside:
        yield
        return
    if _Now.broken:
        raise EngineDied(f"the processes of this cell have lost each other. {_AGAIN}")
    _Now.inside = True
    try:
        _said(here, (target, method, arguments))
        yield
    except (EngineDied, KeyboardInterrupt):
        _Now.broken = True
        raise
    except (UserError, CellFailed):
        raise
    except Exception as error:
        _Now.broken = True
        raise lost(error, here.rank) from error
    finally:
        _Now.inside = False


def lost(error: Exception, rank: int) -> EngineDied:
    """What is to be said of an error in one process, which ends them all."""
    if isinstance(error, torch.OutOfMemoryError):
        return EngineDied(
            f"process {rank}: its GPU is out of memory: lower micro_batch_size while training or "
            "rollout_batch_size while generating, add --set gradient_checkpointing=true, or take "
            f"more --processes. {_AGAIN}"
        )
    if _of_a_connection(error):
        return PeerLost(f"process {rank} has lost another one, which has ended. {_AGAIN}")
    return EngineDied(f"process {rank}: {type(error).__name__}: {error}. {_AGAIN}")


def _of_a_connection(error: Exception) -> bool:
    """Whether an error says that another process is gone."""
    text = str(error).lower()
    return isinstance(error, torch.distributed.DistError) or any(
        word in text for word in ("gloo", "connection closed", "connection reset")
    )


def _said(here: peers.Peers, message: Any) -> None:
    here.tell(message)


def works() -> bool:
    """Whether the processes still follow each other."""
    return not _Now.broken


def dismiss() -> None:
    """Let the processes that follow end."""
    here = peers.current()
    if here is not None and here.first and works():
        here.tell(None)


class _Absent:
    """In the place of what could not be made, here alone if anybody asks for it."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(self._reason)


def follow(makers: Mapping[str, Callable[..., Any]]) -> None:
    """Do as the first process says, until it says that all is done.

    ``makers``: target -> what makes it, out of the targets that there are, and what was said.
    """
    here = peers.current()
    assert here is not None and not here.first
    targets: dict[str, Any] = {}
    while (said := here.hear()) is not None:
        target, method, arguments = said
        try:
            if method == MAKE:
                targets[target] = makers[target](targets, *arguments)
                continue
            getattr(targets[target], method)(*arguments)
        except (UserError, CellFailed) as error:  # the first process says it, having it too
            if method == MAKE:
                targets[target] = _Absent(str(error))
