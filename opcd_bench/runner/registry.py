"""Find methods, tasks and suites: the folder is the registry, and no plugin is named here.

A plugin ships (a file of `METHODS_PACKAGE` or `TASKS_PACKAGE`), or an installed package brings it
(`entry_points`), or it is a file by path.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from opcd_bench.config import measures, words
from opcd_bench.config.claims import BASE, Claim, arm
from opcd_bench.config.suite import Suite
from opcd_bench.config.suite_file import read as read_suite
from opcd_bench.config.words import Word
from opcd_bench.distillation.method import Method
from opcd_bench.distillation.parameters import with_parameters
from opcd_bench.envs import context_file
from opcd_bench.envs.task import Task
from opcd_bench.errors import ConfigError, PluginError, UnknownName, UserError
from opcd_bench.runner.entry_points import METHODS_GROUP, TASKS_GROUP, Packaged, packaged
from opcd_bench.runner.plugins import (
    Where,
    build_task,
    foreign_module,
    load_file,
    method_in,
    module_of,
    source_hash,
    task_in,
)

METHODS_PACKAGE = "opcd_bench.baselines"
TASKS_PACKAGE = "opcd_bench.tasks"
SUITES_PACKAGE = "opcd_bench.config.suites"

SHIPPED = "shipped"
"""The origin of a plugin that comes with opcd-bench."""

T = TypeVar("T")
Kind = Literal["method", "task"]


class Origin(NamedTuple):
    """Where a plugin comes from: `SHIPPED`, a package's name, or ``file``."""

    by: str
    file: Path


class Plugin(NamedTuple, Generic[T]):
    """A loaded method, or a task's class, and where it comes from."""

    value: T
    origin: Origin


@dataclass(frozen=True)
class Listing(Generic[T]):
    """All plugins of a kind: those that load, and the reason of each that does not.

    ``broken`` is by name; ``origins`` has those of ``found``.
    """

    found: dict[str, T]
    broken: dict[str, PluginError]
    origins: dict[str, Origin]


class _Source(NamedTuple, Generic[T]):
    """How plugins of a kind are found, and read from a loaded module."""

    kind: Kind
    package: str
    group: str
    read: Callable[[ModuleType, Where, str | None], T]
    marked: Callable[[T, str], T]


def methods() -> dict[str, Method]:
    """Every method that loads, by name; `listed_methods` also has those that do not."""
    return listed_methods().found


def listed_methods(named: Sequence[str] | None = None) -> Listing[Method]:
    """Every method that ships or that a package brings, loaded or broken; or those ``named`` alone.

    Raises what `method` raises for a word of ``named``, but for PluginError.
    """
    return _listing(known("method") if named is None else named, loaded_method)


def method(word: str, files: Mapping[str, str] | None = None) -> Method:
    """One method by its word: ``opcd``, ``opcd[k=4]``, ``./mine.py``, ``./mine.py[k=4]``.

    ``files``: names of methods that are files -> their paths. Raises ConfigError for a word that
    cannot be taken apart, UnknownName, PluginError if the file is broken, and what
    `parameters.with_parameters` raises.
    """
    return loaded_method(word, files).value


def loaded_method(word: str, files: Mapping[str, str] | None = None) -> Plugin[Method]:
    """`method`, with where it comes from."""
    parsed = _parsed(word)
    found = _one(_METHODS, parsed, files)
    return found._replace(value=with_parameters(found.value, parsed.parameters))


def tasks() -> dict[str, type[Task]]:
    """Every task class that loads, by name; `listed_tasks` also has those that do not."""
    return listed_tasks().found


def listed_tasks(named: Sequence[str] | None = None) -> Listing[type[Task]]:
    """Every task that ships or that a package brings, loaded or broken; or those ``named`` alone.

    Raises what `task` raises for a word of ``named``, but for PluginError.
    """
    return _listing(known("task") if named is None else named, loaded_task)


def loaded_task(word: str, files: Mapping[str, str] | None = None) -> Plugin[type[Task]]:
    """The class of a task by its word, a name or a file, with where it comes from; as `task`."""
    parsed = _parsed(word)
    if parsed.parameters:
        raise ConfigError(f"task {word!r}: only methods take parameters; write {parsed.name}")
    return _one(_TASKS, parsed, files)


def task(word: str, files: Mapping[str, str] | None = None, **options: Any) -> Task:
    """A task by its word, built with those of ``options`` (history=…, data_dir=…) that it takes.

    Raises ConfigError, UnknownName, or PluginError if its file is broken, as `method` does.
    """
    return build_task(loaded_task(word, files).value, **options)


def plugins_of(suite: Suite) -> tuple[dict[str, Method], dict[str, Task]]:
    """The methods and tasks that a suite names, loaded and built with its options, by name.

    Raises UnknownName or PluginError for the first that cannot be had, ConfigError for a name that
    `settled` would have changed.
    """
    return methods_of(suite), {name: task_of(suite, name) for name in suite.tasks}


def methods_of(suite: Suite) -> dict[str, Method]:
    """The methods that a suite names, loaded, by name. Raises as `plugins_of` does."""
    methods = {name: method(name, suite.method_files) for name in suite.methods}
    for name, found in methods.items():
        if found.name != name:
            raise ConfigError(f"methods: {name!r} is {found.name!r}; write {found.name}")
    return methods


def task_of(suite: Suite, name: str) -> Task:
    """A task with the options and the contexts that a suite gives it.

    Raises UnknownName, PluginError, or DataError for a context file that cannot be read.
    """
    found = task(name, suite.task_files, history=suite.history, data_dir=suite.data_dir)
    own = suite.for_task(name)
    return context_file.told(found, own.context, own.context_placement)


def settled(suite: Suite, where: str = "") -> Suite:
    """The suite with each method under its canonical name: ``opcd[k=256]`` is ``opcd``.

    So are the arms of its claims. Of the files it keeps those that it needs; a file of the
    registry's own folder is no file by path. Raises ConfigError for a method that is then there
    twice, or for an arm of a claim that names nothing (``where``: the suite's file, for its
    message), PluginError for a file that is not there or whose name is taken, and what `method`
    raises for a method with parameters.
    """
    changed = {
        "method_files": _files(_METHODS, suite.method_files, suite.methods),
        "task_files": _files(_TASKS, suite.task_files, suite.tasks),
    }
    named: dict[str, str] = {}
    for word in suite.methods:
        name = _canonical(word, changed["method_files"])
        if name in named:
            raise ConfigError(
                f"methods: {word!r} is the same method as {named[name]!r}: a parameter with the "
                "value that the method has anyway changes nothing. Leave one of them out"
            )
        named[name] = word
    changed["methods"] = tuple(named)  # type: ignore[assignment]
    changed["claims"] = tuple(  # type: ignore[assignment]
        _claimed(one, suite, f"{where and f'{where}: '}claims.{number}")
        for number, one in enumerate(suite.claims)
    )
    kept = {key: value for key, value in changed.items() if value != getattr(suite, key)}
    return suite.model_copy(update=kept) if kept else suite


def _canonical(word: str, files: Mapping[str, str]) -> str:
    """A method's name by its word: without parameters the word itself, and nothing is loaded."""
    return method(word, files).name if "[" in word else word


def _claimed(claim: Claim, suite: Suite, where: str) -> Claim:
    """A claim whose arms have their canonical names; ConfigError for one that names nothing."""

    def canonical(which: str) -> str:
        name, task = arm(getattr(claim, which))
        try:
            require("task", task, suite.task_files)
            if name != BASE:
                require("method", name, suite.method_files)
                name = _canonical(name, suite.method_files)
        except UserError as error:
            raise ConfigError(f"{where}.{which}: {error}") from None
        return f"{name} on {task}"

    return claim.model_copy(update={which: canonical(which) for which, _ in claim.arms()})


def known(kind: Kind) -> list[str]:
    """The names of all plugins of a kind that ship or that a package brings; none is loaded."""
    source = _METHODS if kind == "method" else _TASKS
    return sorted({*plugin_files(source.package), *packaged(source.group)})


def require(kind: Kind, word: str, files: Mapping[str, str]) -> None:
    """Raise UnknownName where a word names nothing; what it names is not loaded."""
    name = _parsed(word).name
    if name not in files and name not in known(kind):
        raise _unknown(kind, name)


def suites() -> dict[str, Path]:
    """The suites that ship with the package: name -> TOML file."""
    package = importlib.import_module(SUITES_PACKAGE)
    files = [file for folder in package.__path__ for file in Path(folder).glob("*.toml")]
    return {file.stem: file for file in sorted(files, key=lambda file: file.stem)}


def suite(
    name_or_path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    size: str | None = None,
) -> Suite:
    """A suite by name or TOML file, in a size, with ``overrides`` in place of its own values.

    Raises UnknownName for a name or a size, ConfigError for a file that cannot be used, and what
    `settled` raises.
    """
    file = suite_file(name_or_path)
    return settled(read_suite(file).suite(size, overrides), str(file))


def suite_sizes(name_or_path: str | Path) -> tuple[str, ...]:
    """The sizes of a suite besides the one that it is written in, in the file's order.

    Raises as `suite` does.
    """
    return tuple(read_suite(suite_file(name_or_path)).sizes)


def suite_file(name_or_path: str | Path) -> Path:
    """The TOML file of a suite, given by name or by path."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or "\\" in text:
        return Path(text)
    known = suites()
    if text not in known:
        raise UnknownName(
            "suite", text, known, "A suite of your own is given as a file: --suite ./mine.toml"
        )
    return known[text]


def plugin_files(package: str) -> dict[str, Path]:
    """Stem -> file of every plugin in a package's folders; files that start with _ are helpers."""
    folders = [str(folder) for folder in importlib.import_module(package).__path__]
    found: dict[str, Path] = {}
    for folder in folders:
        for module in pkgutil.iter_modules([folder]):
            if not module.ispkg and not module.name.startswith("_"):
                found.setdefault(module.name, Path(folder) / f"{module.name}.py")
    return dict(sorted(found.items()))


def _method_as(found: Method, hashed: str) -> Method:
    return replace(found, source_hash=hashed)


def _task_as(found: type[Task], hashed: str) -> type[Task]:
    found.source_hash = hashed
    return found


_METHODS = _Source[Method]("method", METHODS_PACKAGE, METHODS_GROUP, method_in, _method_as)
_TASKS = _Source[type[Task]]("task", TASKS_PACKAGE, TASKS_GROUP, task_in, _task_as)


def _parsed(word: str) -> Word:
    try:
        return words.parse(word)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _listing(named: Sequence[str], load: Callable[[str], Plugin[Any]]) -> Listing[Any]:
    listing = Listing[Any]({}, {}, {})
    for word in named:
        try:
            found = load(word)
        except PluginError as error:
            listing.broken[word] = error
        else:
            listing.found[found.value.name] = found.value
            listing.origins[found.value.name] = found.origin
    return listing


def _one(source: _Source[T], word: Word, files: Mapping[str, str] | None) -> Plugin[T]:
    file = word.file or (files or {}).get(word.name)
    if file is not None and (path := _by_path(source, Path(file))) is not None:
        module = load_file(path)
        value = source.marked(source.read(module, path, None), source_hash(module, path))
        return Plugin(value, Origin("file", path))
    if word.name not in known(source.kind):
        raise _unknown(source.kind, word.name)
    return _registered(source, word.name)


def _registered(source: _Source[T], name: str) -> Plugin[T]:
    """A plugin by the name that it is registered under; PluginError for a name of two plugins."""
    shipped, brought = plugin_files(source.package).get(name), packaged(source.group).get(name, ())
    bearers = [f"opcd-bench itself ({shipped})"] if shipped is not None else []
    bearers += [one.where for one in brought]
    if len(bearers) > 1:
        raise PluginError(
            f"{source.kind} {name!r} is there {len(bearers)} times: {'; '.join(bearers)}. Names "
            "tell plugins apart: uninstall a package, or rename its entry point"
        )
    if shipped is not None:
        module = module_of(f"{source.package}.{name}", shipped)
        return Plugin(source.read(module, shipped, None), Origin(SHIPPED, shipped))
    return _of_package(source, brought[0])


def _of_package(source: _Source[T], brought: Packaged) -> Plugin[T]:
    module = foreign_module(brought.module, brought.where)
    value = source.read(module, brought.where, brought.name)
    origin = Origin(brought.package, Path(str(module.__file__)))
    return Plugin(source.marked(value, source_hash(module, brought.where)), origin)


def _files(source: _Source[T], files: Mapping[str, str], named: tuple[str, ...]) -> dict[str, str]:
    """Those of ``files`` that words need and that no registered plugin is."""
    needed = {_parsed(word).name for word in named}
    return {
        name: file
        for name, file in files.items()
        if name in needed and _by_path(source, Path(file)) is not None
    }


def _by_path(source: _Source[T], file: Path) -> Path | None:
    """A file by path; None for one of the registry's own folder, which is registered by its name.

    Raises PluginError for a path of no Python file, or with the name of a registered plugin.
    """
    file = file.expanduser()
    own = plugin_files(source.package).get(file.stem)
    if file.suffix != ".py" or not file.is_file():
        what = "there is no such file" if file.suffix == ".py" else "is no Python file"
        raise PluginError(
            f"{file}: {what} (looked for {file.absolute()}). A {source.kind} is given by name "
            f"(list: opcd-bench {source.kind}s) or as a file: ./my_{source.kind}.py"
        )
    if own is not None and own.resolve() == file.resolve():
        return None
    taken = [f"a {source.kind} that ships with opcd-bench ({own})"] if own is not None else []
    taken += [one.where for one in packaged(source.group).get(file.stem, ())]
    if taken:
        raise PluginError(
            f"{file}: the name {file.stem!r} is taken by {taken[0]}; give the file and its "
            f"{source.kind.upper()}.name another one"
        )
    return file


def _unknown(kind: Kind, name: str) -> UnknownName:
    hint = f"List them: opcd-bench {kind}s"
    if Path(f"{name}.py").is_file():
        hint = f"A file is given by its path: ./{name}.py"
    return UnknownName(kind, name, known(kind), hint)


def foreign_retention(suite: Suite) -> list[str]:
    """The retention tasks that are lm-eval's, or of its kind."""
    known = {*plugin_files(TASKS_PACKAGE), *measures.names()}
    return [name for name in suite.retention if name not in known]
