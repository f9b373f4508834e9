"""Find methods, tasks and suites: the folder is the registry, and no plugin is named here."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from opcd_bench.config.suite import Suite
from opcd_bench.config.suite_file import read as read_suite
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.method import Method
from opcd_bench.envs import context_file
from opcd_bench.envs.task import Task
from opcd_bench.errors import PluginError, UnknownName, UserError

METHODS_PACKAGE = "opcd_bench.baselines"
TASKS_PACKAGE = "opcd_bench.tasks"
SUITES_PACKAGE = "opcd_bench.config.suites"

T = TypeVar("T")


@dataclass(frozen=True)
class Listing(Generic[T]):
    """All plugins of a kind: those that load, and the reason of each that does not."""

    found: dict[str, T]
    broken: dict[str, PluginError]


def methods() -> dict[str, Method]:
    """Every method that loads, by name; `listed_methods` also has those that do not."""
    return listed_methods().found


def listed_methods() -> Listing[Method]:
    """Every method file, loaded or broken."""
    return _listing(METHODS_PACKAGE, _method)


def method(name: str) -> Method:
    """One method; raises UnknownName, or PluginError if its file is broken."""
    return _one("method", METHODS_PACKAGE, name, "List them: opcd-bench methods", _method)


def tasks() -> dict[str, type[Task]]:
    """Every task class that loads, by name; `listed_tasks` also has those that do not."""
    return listed_tasks().found


def listed_tasks() -> Listing[type[Task]]:
    """Every task file, loaded or broken."""
    return _listing(TASKS_PACKAGE, _task_class)


def task(name: str, **options: Any) -> Task:
    """A task, built with those of ``options`` (history=…, data_dir=…) that it takes.

    Raises UnknownName, or PluginError if its file is broken.
    """
    found = _one("task", TASKS_PACKAGE, name, "List them: opcd-bench tasks", _task_class)
    return build_task(found, **options)


def build_task(found: type[Task], **options: Any) -> Task:
    """An instance of a task class, built with those of ``options`` that its constructor takes."""
    parameters = inspect.signature(found).parameters.values()
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    taken = {key: value for key, value in options.items() if takes_all or key in named}
    try:
        return found(**taken)
    except UserError:
        raise
    except Exception as error:
        raise PluginError(
            f"{inspect.getfile(found)}: the task cannot be built with {taken}: {_told(error)}"
        ) from error


def plugins_of(suite: Suite) -> tuple[dict[str, Method], dict[str, Task]]:
    """The methods and tasks that a suite names, loaded and built with its options, by name.

    Raises UnknownName or PluginError for the first that cannot be had.
    """
    methods = {name: method(name) for name in suite.methods}
    return methods, {name: task_of(suite, name) for name in suite.tasks}


def task_of(suite: Suite, name: str) -> Task:
    """A task with the options and the contexts that a suite gives it.

    Raises UnknownName, PluginError, or DataError for a context file that cannot be read.
    """
    found = task(name, history=suite.history, data_dir=suite.data_dir)
    own = suite.for_task(name)
    return context_file.told(found, own.context, own.context_placement)


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

    Raises UnknownName for a name or a size, ConfigError for a file that cannot be used.
    """
    return read_suite(suite_file(name_or_path)).suite(size, overrides)


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


def method_in(module: ModuleType, file: Path) -> Method:
    """The METHOD of a loaded file; raises PluginError where it is absent or misnamed."""
    found = _attribute(module, file, "METHOD")
    if not isinstance(found, Method):
        raise PluginError(f"{file}: METHOD is a {type(found).__name__}; write METHOD = Method(...)")
    _same_name(file, "METHOD.name", found.name)
    if isinstance(found.loss, Divergence) and found.loss.broken and not found.control:
        raise PluginError(
            f"{file}: {found.loss.id} is broken by construction, so the method is a control and no "
            "contender; write control=True"
        )
    return found


def task_in(module: ModuleType, file: Path) -> type[Task]:
    """The TASK of a loaded file; raises PluginError where it is absent, abstract or misnamed."""
    found = _attribute(module, file, "TASK")
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise PluginError(f"{file}: TASK is {found!r}; write TASK = YourTask, a subclass of Task")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise PluginError(f"{file}: {found.__name__} does not define {missing}; Task needs them")
    absent = [field for field in ("name", "version", "summary") if not hasattr(found, field)]
    if absent:
        raise PluginError(f"{file}: {found.__name__} does not set {', '.join(absent)}")
    _same_name(file, "TASK.name", found.name)
    return found


def guarded(file: Path, load: Callable[[], T]) -> T:
    """Run ``load``; what a plugin raises becomes a PluginError that names its file."""
    try:
        with warnings.catch_warnings():  # a control says so in every listing
            warnings.filterwarnings("ignore", message="positive control")
            return load()
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{file}: cannot be loaded: {_told(error)}") from error


def _method(package: str, stem: str, file: Path) -> Method:
    module = guarded(file, lambda: importlib.import_module(f"{package}.{stem}"))
    return method_in(module, file)


def _task_class(package: str, stem: str, file: Path) -> type[Task]:
    module = guarded(file, lambda: importlib.import_module(f"{package}.{stem}"))
    return task_in(module, file)


def _listing(package: str, load: Callable[[str, str, Path], T]) -> Listing[T]:
    found: dict[str, T] = {}
    broken: dict[str, PluginError] = {}
    for stem, file in plugin_files(package).items():
        try:
            found[stem] = load(package, stem, file)
        except PluginError as error:
            broken[stem] = error
    return Listing(found, broken)


def _one(kind: str, package: str, name: str, hint: str, load: Callable[[str, str, Path], T]) -> T:
    files = plugin_files(package)
    if name not in files:
        raise UnknownName(kind, name, files, hint)
    return load(package, name, files[name])


def _attribute(module: ModuleType, file: Path, name: str) -> Any:
    if not hasattr(module, name):
        raise PluginError(f"{file}: has no {name}; a file that is no plugin starts with an _")
    return getattr(module, name)


def _same_name(file: Path, field: str, name: str) -> None:
    if name != file.stem:
        raise PluginError(
            f"{file}: {field} is {name!r} but the file is {file.stem!r}; give both one name"
        )


def _told(error: BaseException) -> str:
    """An exception in one line, with the place where a SyntaxError stands."""
    text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())
