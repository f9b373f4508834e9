"""How a method is shown wherever it stands: its name for readers, its colour and its marker."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import product
from typing import Any, NamedTuple

from opcd_bench.hashing import digest

COLOURS = 10
"""How many there are to choose from."""
MARKERS = "os^DvPX<>ph*d"
CONTROL = -1
"""The colour of every control."""
PARAMETERS = {
    "weights=larger": "larger teacher",
    "weights=live": "live teacher",
    "weights=ema": "EMA teacher",
    "weights=initial": "initial teacher",
    "reads=context": "teacher reads context",
    "reads=hint": "teacher reads hint",
    "reads=other_hint": "teacher reads another hint",
    "reads=reference": "teacher reads answer",
    "reads=nothing": "teacher reads nothing",
}
"""What a parameter of a method is for readers, where not itself."""


class ShownMethod(NamedTuple):
    """A method for readers; ``colour`` is a number of a colour, or `CONTROL`."""

    label: str
    colour: int
    marker: str


def shown(methods: Iterable[str], controls: Collection[str] = ()) -> dict[str, ShownMethod]:
    """Each method once, in the order given, those that are ``controls`` last.

    A method that ships has the look of methods.toml. Colour and marker of another follow from its
    name; of two of one colour the later one by name gets the next that is free, and the marker of
    its own, as long as there are any.
    """
    names = list(dict.fromkeys(methods))
    known = _known()
    looks = {(one.get("colour", CONTROL), one["marker"]) for one in known.values()}
    taken: set[tuple[int, str]] = set()
    found: dict[str, ShownMethod] = {}
    for name in sorted(names, key=lambda name: (name not in known, name)):
        look = _look(name, name in controls, looks, taken)
        taken.add(look)
        found[name] = ShownMethod(label(name), *look)
    return {name: found[name] for name in sorted(names, key=lambda name: name in controls)}


def label(name: str) -> str:
    """A method's name for readers: ``OPCD``, ``OPCD [k=4; larger teacher]``, or its own name."""
    base, _, rest = name.partition("[")
    one = _known().get(base)
    if one is None:
        return name
    if not rest:
        return str(one["label"])
    return f"{one['label']} [{'; '.join(_parameters(rest.removesuffix(']').split(',')))}]"


def ceiling(name: str) -> str:
    """A ceiling for readers, by `readings.ceiling_of`: ``ceiling, adapted by GRPO in context``."""
    first, *parts = name.split("-")
    words = [first]
    if parts[:1] == ["larger"]:
        words.append(parts.pop(0))
    if parts[:1] == ["adapted"]:
        told = parts[2:3] == ["told"]
        words.append(f"adapted by {label(parts[1])}{' in context' if told else ''}")
        parts = parts[3 if told else 2 :]
    return ", ".join([*words, *([" ".join(parts)] if parts else [])])


def _parameters(given: Sequence[str]) -> Iterator[str]:
    adapted = "weights=adapted" in given
    for one in given:
        name, _, value = one.partition("=")
        if adapted and name == "by":
            told = " in context" if "by_reads=context" in given else ""
            yield f"teacher adapted by {label(value)}{told}"
        elif not adapted or name not in ("weights", "by_reads"):
            yield PARAMETERS.get(one, one)


def _look(
    name: str, control: bool, known: Collection[tuple[int, str]], taken: Collection[tuple[int, str]]
) -> tuple[int, str]:
    """A colour and a marker; `known` are those of the methods that ship."""
    own = _known().get(name)
    if own is not None:
        return own.get("colour", CONTROL), own["marker"]
    colours = [CONTROL] if control else list(range(COLOURS))
    free = [look for look in product(colours, MARKERS) if look not in known]
    first = int(digest({"method": name}), 16) % len(free)
    turned = [look for look in [*free[first:], *free[:first]] if look not in taken]
    used = {colour for colour, _ in taken}
    marker = free[first][1]
    return min(turned, key=lambda look: (look[0] in used, look[1] != marker), default=free[first])


@cache
def _known() -> Mapping[str, Any]:
    """methods.toml."""
    text = resources.files("opcd_bench.report.tables").joinpath("methods.toml").read_text("utf-8")
    return tomllib.loads(text)
