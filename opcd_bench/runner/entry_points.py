"""Methods and tasks that installed packages bring, by their entry points; nothing is imported."""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from dataclasses import dataclass

METHODS_GROUP = "opcd_bench.methods"
TASKS_GROUP = "opcd_bench.tasks"


@dataclass(frozen=True)
class Packaged:
    """A plugin of an installed package: its name, and the module that holds METHOD or TASK."""

    name: str
    package: str
    module: str

    @property
    def where(self) -> str:
        """Where it lies, as errors say it."""
        return f"package {self.package!r}, module {self.module}"


def packaged(group: str) -> dict[str, tuple[Packaged, ...]]:
    """Name -> those who bring a plugin of that name: more than one is a clash."""
    return _packaged(group, tuple(sys.path))


@functools.cache
def _packaged(group: str, path: tuple[str, ...]) -> dict[str, tuple[Packaged, ...]]:
    """`packaged`, read once for each ``path`` that packages are found on."""
    found: dict[str, dict[Packaged, None]] = {}
    for entry in importlib.metadata.entry_points(group=group):
        package = entry.dist.name if entry.dist is not None else "an unnamed package"
        one = Packaged(entry.name, package, entry.module)
        found.setdefault(entry.name, {})[one] = None
    return {name: tuple(found[name]) for name in sorted(found)}
