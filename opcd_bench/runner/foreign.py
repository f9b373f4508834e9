"""Code that does not ship with opcd-bench is loaded in another process first, which may hang."""

from __future__ import annotations

import functools
import importlib
import runpy
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from opcd_bench.hashing import bytes_digest
from opcd_bench.runner import isolated

LOAD_SECONDS = 60.0
"""How long a plugin's import may take."""
THREAD_SECONDS = 2.0
"""How long a thread may go on that an import started."""


class Tried(NamedTuple):
    """What loading did: ``problem`` if it would hang or end a process, ``raised`` an error.

    ``modules``: the names, up to the first dot, of what it loaded.
    """

    problem: str | None
    raised: str | None
    modules: tuple[str, ...]


def tried_file(path: Path, source: bytes) -> Tried:
    """A file, of these bytes, loaded once in a process of its own."""
    return _tried("file", str(path), bytes_digest(source, 64), LOAD_SECONDS)


def tried_module(name: str) -> Tried:
    """A module of an installed package, loaded once in a process of its own."""
    return _tried("module", name, "", LOAD_SECONDS)


@functools.cache
def _tried(kind: str, target: str, _: str, seconds: float) -> Tried:
    try:
        (found,) = isolated.said(f"{__name__}:loaded", [kind, target], seconds, quiet=True)
    except isolated.Lost as lost:
        return Tried(f"while it was imported, {lost}", None, ())
    return Tried(found["problem"], found["raised"], tuple(found["modules"]))


def loaded(kind: str, target: str) -> Iterator[dict[str, Any]]:
    """What loading a file or a module does here: `Tried` as JSON."""
    problem = raised = None
    before, had = set(threading.enumerate()), set(sys.modules)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "file":
                runpy.run_path(target, run_name="opcd_bench_tried")
            else:
                importlib.import_module(target)
    except KeyboardInterrupt:  # nobody has typed ctrl-C here
        problem = "importing it raises KeyboardInterrupt"
    except BaseException as error:
        raised = f"{type(error).__name__}: {error}"
    if lasting := [t for t in threading.enumerate() if t not in before and not t.daemon]:
        lasting[0].join(THREAD_SECONDS)
        if any(thread.is_alive() for thread in lasting):
            problem = "importing it starts a thread that does not end"
    modules = sorted({name.partition(".")[0] for name in set(sys.modules) - had})
    yield {"problem": problem, "raised": raised, "modules": modules}
