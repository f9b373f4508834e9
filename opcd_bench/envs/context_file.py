"""The file that a context is kept in: what is told, where it goes, and how it was made."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from opcd_bench.envs.task import PLACEMENTS, Context, Contexts, Placement, Task
from opcd_bench.errors import ConfigError, DataError
from opcd_bench.store import user_files
from opcd_bench.store.files import write_atomic
from opcd_bench.store.jsonl import object_text

VERSION = 1
A_CONTEXT = (
    f'A context is {{"version": {VERSION}, "text": "…", "placement": "system"}}, or a .txt file'
)
"""For whoever gives another file."""
MOST_BYTES = 4 * 2**20
"""Of a context's file: more than a million tokens are no context."""

_HIDDEN = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\\ufeff\\ud800-\\udfff]")
KEYS = ("hash", "items", "placement", "provenance", "text", "version")
"""All keys of a JSON context; a file of one's own needs ``version`` and ``text`` alone."""

SHIPPED = "opcd_bench.tasks"
"""The package whose ``data`` folder has the prompts that ship: ``prompts/….txt``."""


@dataclass(frozen=True)
class ContextFile:
    """A context as it is kept.

    ``text`` is told word for word. ``placement`` None: where the task's own context goes.
    ``items`` are the lessons (or traces) that the text was put together from, oldest first;
    ``provenance`` is how it was made, as JSON values.
    """

    text: str
    placement: Placement | None = None
    items: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)


def resolve(name: str) -> Path:
    """The file of a context: a path, or the name of one that ships (``prompts/….txt``).

    Raises DataError that names the places looked at.
    """
    here = Path(name).expanduser()
    if here.exists() and not here.is_dir():  # of a pipe `read` says that it is one
        return here
    looked = [str(here)]
    if not here.is_absolute():
        for folder in importlib.import_module(SHIPPED).__path__:
            shipped = Path(folder) / "data" / name
            if shipped.is_file():
                return shipped
            looked.append(str(shipped))
    if here.is_dir():
        files = sorted(path.name for path in here.iterdir() if path.suffix in (".json", ".txt"))
        there = f"; it holds {', '.join(files[:5])}" if files else ""
        raise DataError(
            f"context {name!r} is a folder, not a file{there}. Name a file in it; several make a "
            f'pool: context = ["{here / "a.json"}", "{here / "b.json"}"]'
        )
    raise DataError(
        f"context {name!r}: there is no such file (looked for {' and '.join(looked)}). Give a text "
        "file, or make one from the model's own attempts: opcd-bench extract --tasks TASK --out "
        "contexts/mine"
    )


def read(path: Path) -> ContextFile:
    """The context in a file: ``.json`` as `write` makes it, anything else plain UTF-8 text.

    A byte order mark is no part of the text. Raises DataError for a file that is empty, of another
    shape, that holds control characters, or that was edited after it was made, so that its
    provenance would be another text's.
    """
    try:
        raw = user_files.text_of(path, MOST_BYTES)
        if path.suffix != ".json":
            return _telling(path, _plain(path, ContextFile(raw.strip())))
        value = user_files.json_of(raw)
    except user_files.Unusable as error:
        form = f". {A_CONTEXT}" if path.suffix == ".json" else ""
        raise DataError(f"context {user_files.shown(path)}: {error}{form}") from None
    if problem := _problem(value):
        raise DataError(f"context {path}: {problem}. {A_CONTEXT}")
    found = ContextFile(
        text=value["text"],
        placement=value.get("placement"),
        items=tuple(value.get("items", ())),
        provenance=value.get("provenance", {}),
    )
    if "hash" in value and value["hash"] != _hash(found):
        raise DataError(
            f"context {path}: its text was changed after it was made (hash {value['hash']}, now "
            f'{_hash(found)}), so its stored provenance is no longer true. Remove "hash" and '
            '"provenance" from it, or save the text as a .txt file'
        )
    return _telling(path, found if "hash" in value else _plain(path, found))


def _plain(path: Path, found: ContextFile) -> ContextFile:
    """``found``; DataError where somebody's own text holds what no one can see, and tokens say.

    A context that was made from a model's replies holds what the model wrote.
    """
    hidden = _HIDDEN.search(found.text)
    if hidden is not None:
        line = found.text.count("\n", 0, hidden.start()) + 1
        raise DataError(
            f"context {path}: line {line} holds the invisible character U+{ord(hidden[0]):04X}, "
            "which would be part of the prompt. Remove it, or save the file as UTF-8 text again"
        )
    return found


def _telling(path: Path, found: ContextFile) -> ContextFile:
    if not found.text.strip():
        raise DataError(f"context {path}: it is empty")
    return found


def _problem(value: Any) -> str | None:
    """What is wrong with the shape of a JSON context, in a few words; None if nothing is."""
    if not isinstance(value, dict):
        return f"it holds a {type(value).__name__}, not an object"
    if value.get("version") != VERSION:
        version = value.get("version")
        return f"its version is {version!r}, but this opcd-bench reads version {VERSION}"
    if foreign := sorted(set(value) - set(KEYS)):
        return f"it has a key {foreign[0]!r}, which does not exist (allowed: {', '.join(KEYS)})"
    if not isinstance(value.get("text"), str):
        return 'it has no "text"'
    if value.get("placement") not in (None, *PLACEMENTS):
        return f"placement is {value['placement']!r}; allowed: {', '.join(PLACEMENTS)}"
    items = value.get("items", [])
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        return '"items" is not a list of texts'
    if not isinstance(value.get("provenance", {}), dict):
        return '"provenance" is not an object'
    return None


def _hash(made: ContextFile) -> str:
    return Context(made.text, made.placement or "system").hash


def text_of(made: ContextFile) -> str:
    """The bytes of a JSON context file, as text."""
    return object_text(
        {
            "version": VERSION,
            "text": made.text,
            "placement": made.placement,
            "items": list(made.items),
            "hash": _hash(made),
            "provenance": dict(made.provenance),
        }
    )


def tells(path: Path, made: ContextFile) -> bool:
    """Whether the context at ``path`` is ``made``, however it came about: all but provenance."""
    try:
        return replace(read(path), provenance=made.provenance) == made
    except DataError:
        return False


def write(path: Path, made: ContextFile) -> None:
    """Put a context at ``path``, wholly or not at all; StoreError where it cannot be written."""
    write_atomic(path, text_of(made))


def told(task: Task, names: Sequence[str], placement: Placement | None) -> Task:
    """``task`` as a suite tells it: with the contexts in the files ``names``, if there are any.

    ``placement`` goes before the files' own, these before the task's own. Raises DataError for a
    file that cannot be read, ConfigError for a pool in which two files tell the same, and for a
    placement without a context.
    """
    if not names:
        if placement is not None:
            raise ConfigError(
                f"context_placement = {placement!r} says where a context goes, but no context is "
                "given; add --context FILE, or leave context_placement out"
            )
        return task
    own = task.context().placement
    seen: dict[str, str] = {}
    pool = []
    for name in names:
        found = read(resolve(name))
        context = Context(found.text, placement or found.placement or own)
        if context.hash in seen:
            raise ConfigError(
                f"context: {seen[context.hash]} and {name} hold the same text. A pool draws each "
                "of its contexts equally often, so name this one only once"
            )
        seen[context.hash] = name
        pool.append(context)
    return task.telling(Contexts(tuple(pool)))
