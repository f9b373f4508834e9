"""Whether this process is being taken off its node: then what stops in it has not failed."""

from __future__ import annotations

_LEAVING: list[bool] = []


class Left(BaseException):
    """Raised where something would be written afterwards: no guard of foreign code stops it."""


def leave() -> None:
    """Say that the node is taken away: whatever is raised from now on is no fault of a cell's."""
    _LEAVING.append(True)


def leaving() -> bool:
    """Whether the node is being taken away."""
    return bool(_LEAVING)


def refuse() -> None:
    """Raise Left if so: whatever was caught on the way, what it made of the work is not stored."""
    if leaving():
        raise Left("the process was taken off its node")
