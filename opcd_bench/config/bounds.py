"""How large a setting may be: what is beyond fits no machine, and is a slip of the keyboard."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

COUNT = 1_000_000
"""Of steps, examples, attempts, and what is worked on at a time."""

LENGTH = 10_000_000
"""Tokens of a prompt, a response or a context; a model's own limit is far below."""

REPEATS = 10_000
"""Of seeds and samples: everything is done that often."""

ROUNDS = 1_000
PROCESSES = 1_024
"""Of threads and processes: more than any machine has cores."""

RANK = 65_536
"""Of an adapter: no layer is wider."""

CELLS = 100_000
"""Runs of one suite."""


def allowed(limits: Iterable[Any]) -> str:
    """The range that a declaration's limits leave, in words; nothing where they leave all.

    ``from 1 to 1,000,000``, ``above 0, at most 1``, ``0 or more``.
    """
    found = {
        name: value
        for limit in limits
        for name in ("ge", "gt", "le", "lt")
        if (value := getattr(limit, name, None)) is not None
    }
    least, most = found.get("ge"), found.get("le")
    if least is not None and most is not None:
        return f"from {_number(least)} to {_number(most)}"
    below = [] if "gt" not in found else [f"above {_number(found['gt'])}"]
    below += [] if least is None else [f"{_number(least)} or more"]
    below += [] if most is None else [f"at most {_number(most)}"]
    below += [] if "lt" not in found else [f"below {_number(found['lt'])}"]
    return ", ".join(below)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
