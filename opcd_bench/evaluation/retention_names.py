"""Whether lm-eval has a retention task, and what it needs: told without importing lm-eval."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from opcd_bench.envs import ifeval
from opcd_bench.errors import DataWarning, MissingPackage, UnknownName
from opcd_bench.evaluation.retention_guard import nltk_data

OURS = Path(__file__).with_name("lm_eval_tasks")
"""The folder of this project's own lm-eval tasks, for ``lm_eval --include_path``."""

_NAMED = re.compile(rb"""(?m)^[ \t-]*(?:task|group|tag):[ \t]*["']?([\w.+/-]+)""")

_TASK = rb"""(?m)^["']?task["']?:[ \t]*["']?"""
"""What stands before a task's name in the file that declares it."""


def refuse_unusable(
    names: Sequence[str], data_dir: Path | None, limit: int | None, *, planned: bool
) -> None:
    """Raise UnknownName for a name that stands in none of lm-eval's files, MissingPackage for what
    is not installed. That the Hub has the documents is not asked. ``planned``: NLTK data that are
    missing here are a DataWarning, since the run may be for another machine.
    """
    for package in ("lm_eval", "accelerate") if names else ():
        if importlib.util.find_spec(package) is None:
            install = package.replace("_", "-")
            raise MissingPackage(install, f"pip install {install}", "retention is measured with it")
    for name in names:
        if not _stands_somewhere(name):
            near = difflib.get_close_matches(name, _names(), n=5, cutoff=0.5)
            raise UnknownName(
                "retention task",
                name,
                {*near, "ifeval", "ifeval_micro"},
                "All: `lm_eval ls subtasks`.",
            )
        if name.startswith("ifeval"):
            ifeval.require_packages()
        local = data_dir is not None and (data_dir / name).is_dir()
        if name == "ifeval" and limit is None and not local:  # all documents, so all types
            _require_punkt(name, data_dir, planned)


def undeclared(names: Sequence[str]) -> list[str]:
    """Those that no file declares as a task in so many words: only lm-eval itself knows of them.

    Groups are among them, and tasks that lm-eval's Python code names.
    """
    return [name for name in names if not _stands_somewhere(name, _TASK)]


def _require_punkt(name: str, data_dir: Path | None, planned: bool) -> None:
    try:
        with nltk_data(data_dir):
            ifeval.require_punkt(name, ifeval.NEED_PUNKT)
    except MissingPackage as error:
        if not planned:
            raise
        warnings.warn(f"on this machine a run is refused: {error}", DataWarning, stacklevel=2)


def _stands_somewhere(name: str, before: bytes = rb"(?<![\w.-])") -> bool:
    """Whether a name, behind ``before``, is a word of our tasks' files, or of lm-eval's."""
    word = re.compile(before + re.escape(name.encode()) + rb"(?![\w.-])")
    near = [folder / part for folder in _roots() for part in (name, name.split("_")[0])]
    return any(
        word.search(text)
        for folder in (OURS, *near, *_roots())
        if folder.is_dir()
        for text in _texts(folder)
    )


def _roots() -> list[Path]:
    spec = importlib.util.find_spec("lm_eval")
    places = [] if spec is None else spec.submodule_search_locations or []
    return [OURS, *(Path(place) / "tasks" for place in places)]


def _texts(folder: Path) -> Iterator[bytes]:
    for ending in ("*.y*ml", "*.py"):
        for path in sorted(folder.rglob(ending)):
            yield path.read_bytes()


@functools.cache
def _names() -> frozenset[str]:
    found = (_NAMED.findall(text) for folder in _roots() for text in _texts(folder))
    return frozenset(name.decode() for names in found for name in names)
