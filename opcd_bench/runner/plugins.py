"""Load one method or task, from a module or from a file; what goes wrong names where it lies."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.method import Method
from opcd_bench.envs import data_sets
from opcd_bench.envs.task import (
    SPLITS,
    Example,
    Split,
    Task,
    Unreadable,
    assert_disjoint,
    floors_and_best,
)
from opcd_bench.errors import DataError, MissingData, MissingPackage, PluginError, UserError
from opcd_bench.hashing import bytes_digest
from opcd_bench.rollout import regraded
from opcd_bench.runner import foreign

T = TypeVar("T")
ASKED = 100
"""The first examples of each split, of which a contributed task is asked for floors."""

Where = Path | str
"""Where a plugin lies, as an error says it: its file, or the package that brings it."""


def module_of(name: str, where: Where) -> ModuleType:
    """A module by its full name; PluginError says ``where`` it lies and what it raised."""
    return guarded(where, lambda: importlib.import_module(name))


def foreign_module(name: str, where: Where) -> ModuleType:
    """`module_of` for a package that somebody else wrote: tried in another process first."""
    if name not in sys.modules:
        _refuse(where, foreign.tried_module(name))
    return module_of(name, where)


def load_file(file: Path) -> ModuleType:
    """The module in a file outside every package, loaded once for each content that it has.

    It runs from the very bytes that `source_hash` reads, so that no stale byte code stands in for
    an edited file; in another process first, which may hang. PluginError names the file.
    """
    path = file.resolve()
    try:
        source = path.read_bytes()
    except OSError as error:
        raise PluginError(f"{file}: cannot be read: {error.strerror} (looked for {path})") from None
    name = f"opcd_bench_file_{path.stem}_{bytes_digest(str(path).encode() + source, 16)}"
    if name in sys.modules:
        return sys.modules[name]
    _refuse(file, foreign.tried_file(path, source))
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up while it loads
    try:
        guarded(file, lambda: exec(compile(source, str(path), "exec"), module.__dict__))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def source_hash(module: ModuleType, where: Where) -> str:
    """Ten hex digits of the SHA-256 of a module's file, whatever its line ends."""
    try:
        source = Path(str(module.__file__)).read_bytes()
    except OSError as error:
        raise PluginError(f"{where}: its source cannot be read: {error.strerror}") from None
    return bytes_digest(source.replace(b"\r\n", b"\n"), 10)


def method_in(module: ModuleType, where: Where, name: str | None = None) -> Method:
    """The METHOD of a loaded module; raises PluginError where it is absent or misnamed.

    Its name is ``name``, or else that of the file ``where``.
    """
    found = _attribute(module, where, "METHOD")
    if not isinstance(found, Method):
        raise PluginError(
            f"{where}: METHOD is a {type(found).__name__}; write METHOD = Method(...)"
        )
    _same_name(where, "METHOD.name", found.name, name)
    if isinstance(found.loss, Divergence) and found.loss.broken and not found.control:
        raise PluginError(
            f"{where}: {found.loss.id} is broken by construction, so the method is a control and "
            "no contender; write control=True"
        )
    return found


def task_in(module: ModuleType, where: Where, name: str | None = None) -> type[Task]:
    """The TASK of a loaded module; raises PluginError where it is absent, abstract or misnamed."""
    found = _attribute(module, where, "TASK")
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise PluginError(f"{where}: TASK is {found!r}; write TASK = YourTask, a subclass of Task")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise PluginError(f"{where}: {found.__name__} does not define {missing}; Task needs them")
    absent = [field for field in ("name", "version", "summary") if not hasattr(found, field)]
    if absent:
        raise PluginError(f"{where}: {found.__name__} does not set {', '.join(absent)}")
    _same_name(where, "TASK.name", found.name, name)
    return found


def build_task(found: type[Task], **options: Any) -> Task:
    """An instance of a task class, built with those of ``options`` that its constructor takes."""
    parameters = inspect.signature(found).parameters.values()
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    taken = {key: value for key, value in options.items() if takes_all or key in named}
    try:
        with printing_aside():
            return found(**taken)
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(
            f"{inspect.getfile(found)}: the task cannot be built with {taken}: {_told(error)}"
        ) from error


def guarded(where: Where, load: Callable[[], T]) -> T:
    """Run ``load``; what a plugin raises becomes a PluginError that says where it lies.

    SystemExit too, and every exception but that of ctrl-C. What it prints goes to standard error.
    """
    try:
        with warnings.catch_warnings(), printing_aside():  # a control says so in every listing
            warnings.filterwarnings("ignore", message="positive control")
            return load()
    except (PluginError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(f"{where}: cannot be loaded: {_told(error)}") from error


def asked(task: Task, ask: Callable[[], T], of: str = "") -> T:
    """What a task's own code answers; of one that does not ship, PluginError for what it raises.

    ``of``: what it is asked for, as an error says it. UserErrors and the exception of ctrl-C stay
    what they are.
    """
    if type(task).source_hash is None:
        return ask()
    where = inspect.getfile(type(task))
    try:
        with printing_aside():
            return ask()
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        with contextlib.suppress(ValueError):
            where = str(Path(where).relative_to(Path.cwd()))
        at = f" ({of})" if of else ""
        raise PluginError(
            f"{where}: its code fails{at}: {_told(error)}. To test it, type: opcd-bench check "
            f"{where}"
        ) from error


def answers(task: Task, *, local: bool = True) -> None:
    """Ask a task that does not ship for all that a run asks of it, as far as its data are there.

    PluginError for what its code raises, DataError for splits that overlap and patterns that are
    none. ``local``: only what is at hand, nothing is downloaded.
    """
    if type(task).source_hash is None:
        return
    here = data_sets.local_only() if local else contextlib.nullcontext()
    with contextlib.suppress(MissingData, MissingPackage), here:
        asked(task, task.options)
        asked(task, partial(assert_disjoint, task))
        for split in SPLITS:
            asked(task, partial(_bounds, task, split), f"floors and best_possible of {split}")
            of = partial(task.examples, split)
            asked(task, partial(_first_graded, task, of), f"an episode of {split}")
        for probe in asked(task, lambda: [*task.probes()], "probes"):
            of = partial(getattr, probe, "examples")
            asked(task, partial(_first_graded, task, of), f"an episode of {probe.name}")
    asked(task, partial(_refuse_patterns, task), "leak_patterns")


def _refuse_patterns(task: Task) -> None:
    for pattern in task.leak_patterns:
        try:
            re.compile(pattern, re.IGNORECASE)
        except re.error as error:
            raise DataError(
                f"task {task.name!r}: leak_patterns: {pattern!r} is no regular expression ({error})"
            ) from None


def _bounds(task: Task, split: Split) -> tuple[dict[str, float], float]:
    """Floors and the best possible score, as a suite stores them, of the first examples."""
    return floors_and_best(task, task.examples(split)[:ASKED])


def _first_graded(task: Task, of: Callable[[], Sequence[Example]]) -> None:
    """Play the first example to its end; raises where no reply's episode is graded there.

    One reply alone may be what its grader cannot read.
    """
    for example in of()[:1]:
        errors = []
        for reply in dict.fromkeys(("Answer: 0", *regraded.CONTROLS, example.reference or "")):
            try:
                regraded.graded(task, example, 0, [reply] * _turns(task, example, reply))
            except UserError:
                raise
            except Unreadable:
                return
            except Exception as error:  # the task's own code; the next reply is tried
                errors.append(error)
            else:
                return
        raise errors[0]


def _turns(task: Task, example: Example, reply: str) -> int:
    """How many turns an episode takes in which every reply is the same."""
    episode, turns = task.open(example, 0), 1
    while not episode.step(reply).done and turns < task.max_turns:
        turns += 1
    return turns


@contextlib.contextmanager
def printing_aside() -> Iterator[None]:
    """What plugins print goes to standard error: on standard output it would spoil ``--json``."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _refuse(where: Where, tried: foreign.Tried) -> None:
    """Raise PluginError where loading a plugin would hang or end this process."""
    if tried.problem is not None:
        raise PluginError(f"{where}: cannot be loaded: {tried.problem}")


def _attribute(module: ModuleType, where: Where, name: str) -> Any:
    if not hasattr(module, name):
        raise PluginError(f"{where}: has no {name}; a file that is no plugin starts with an _")
    return getattr(module, name)


def _same_name(where: Where, field: str, name: str, wanted: str | None) -> None:
    if isinstance(where, Path) and wanted is None and name != where.stem:
        raise PluginError(
            f"{where}: {field} is {name!r} but the file is {where.stem!r}; give both one name"
        )
    if wanted is not None and name != wanted:
        raise PluginError(
            f"{where}: {field} is {name!r} but the entry point is {wanted!r}; give both one name"
        )


def _told(error: BaseException) -> str:
    """An exception in one line, with the place where a SyntaxError stands."""
    text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())
