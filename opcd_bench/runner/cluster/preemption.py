"""Whether this process is being taken off its node: then what stops in it has not failed."""

from __future__ import annotations

_LEAVING: list[bool] = []


def leave() -> None:
    """Say that the node is taken away: whatever is raised from now on is no fault of a cell's."""
    _LEAVING.append(True)


def leaving() -> bool:
    """Whether the node is being taken away."""
    return bool(_LEAVING)
