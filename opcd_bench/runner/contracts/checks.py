"""What `opcd-bench check FILE` and tests/contracts ask of every contributed file."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from opcd_bench.distillation.method import Method
from opcd_bench.envs.task import Task
from opcd_bench.errors import PluginError, UserError
from opcd_bench.hashing import digest
from opcd_bench.runner import foreign, isolated, registry
from opcd_bench.runner.contracts.contract import (
    HEAVY,
    Begun,
    Contract,
    ContractBroken,
    Result,
    steps,
)
from opcd_bench.runner.entry_points import METHODS_GROUP, TASKS_GROUP, Packaged, packaged
from opcd_bench.runner.plugins import build_task, load_file, method_in, task_in
from opcd_bench.store.environment import differences

READ = "the data that it reads can be had"
KNOWN_BY = "its runs are known by the same values in every process, before and after use"
LOADS = "loads, and holds a METHOD or a TASK of the file's name"


def check_file(path: str | Path, data_dir: str | None = None) -> Iterator[Result]:
    """Every contract of a method or task file, wherever it lies; loads torch for a method.

    A task that reads data is built with ``data_dir``, or reads the Hub without one; if they cannot
    be had, that is a line that failed, and the last one. Raises PluginError where there is no such
    Python file.
    """
    file = _python_file(path)
    return (step for step in _steps(file, data_dir) if isinstance(step, Result))


def checked_apart(path: str | Path, data_dir: str | None, seconds: float) -> Iterator[Result]:
    """`check_file` in a process of its own, so that the file's code may hang or end it.

    A contract that takes longer than ``seconds``, or ends the process, is a line that failed, and
    the last one. Raises as `check_file` does.
    """
    words = [str(_python_file(path)), *([] if data_dir is None else [data_dir])]
    begun = LOADS
    try:
        for step in isolated.said(f"{__name__}:told", words, seconds):
            begun = step["says"]
            if "passed" in step:
                yield Result(**step)
    except isolated.Lost as lost:
        yield Result(begun, False, str(lost))


def told(path: str, data_dir: str | None = None) -> Iterator[dict[str, Any]]:
    """What `check_file` does, as JSON: each contract as it begins, and how it went."""
    return (asdict(step) for step in _steps(Path(path), data_dir))


def _python_file(path: str | Path) -> Path:
    file = Path(path).resolve()
    if not file.exists():
        raise PluginError(f"{path}: there is no such file (looked for {file})")
    if file.suffix != ".py" or not file.is_file():
        raise PluginError(f"{path}: is no Python file; type: opcd-bench check path/to/name.py")
    return file


def _steps(file: Path, data_dir: str | None) -> Iterator[Begun | Result]:
    try:
        _parsed(file)
    except (SyntaxError, ValueError) as error:  # ValueError: a NUL in it
        yield Result(LOADS, False, f"{type(error).__name__}: {error}")
        return
    yield from steps(FILE_CONTRACTS, file)
    yield Begun(LOADS)
    try:
        module = load_file(file)
        kind = kind_of(module, file)
        if kind == "method":
            method: Method = method_in(module, file)
        else:
            task: Task = build_task(task_in(module, file), data_dir=data_dir)
    except UserError as error:
        yield Result(LOADS, False, str(error))
        return
    from opcd_bench.runner.contracts.method_checks import METHOD_CONTRACTS
    from opcd_bench.runner.contracts.task_checks import TASK_CONTRACTS

    yield Result(LOADS, True, f"a {kind}")
    yield from steps(_taken(file, kind), file)
    if kind == "method":
        yield from steps(METHOD_CONTRACTS, method)
        yield from steps((Contract(KNOWN_BY, partial(_same_elsewhere, file)),), method)
        return
    yield Begun(READ)
    try:
        task.examples("train")
    except UserError as error:
        yield Result(READ, False, str(error))
        return
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # what load() raises is the file's
        yield Result(READ, False, _raised(error, file, data_dir))
        return
    yield from steps(TASK_CONTRACTS, task)


def _raised(error: BaseException, file: Path, data_dir: str | None) -> str:
    """What reading its data raised, where in the file, and what to do where no folder was given."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    at = f" ({file.name}, line {lines[-1]})" if lines else ""
    told = f"{type(error).__name__}: {error}{at}"
    if data_dir is not None:
        return told
    return (
        f"{told}; no folder was given, so data_dir is None. If it reads files, add --data-dir "
        "DATA, and let load() raise MissingData where data_dir is None"
    )


def _same_elsewhere(file: Path, method: Method) -> str:
    """The method, used in this process by now, describes itself as in a fresh one."""
    here = json.loads(json.dumps(dict(method.describe()), allow_nan=False))
    of = f"{__name__}:description"
    try:
        (there,) = isolated.said(of, [str(file)], foreign.LOAD_SECONDS, quiet=True)
    except isolated.Lost as lost:
        raise ContractBroken(f"in another process, {lost}") from None
    if changed := differences(there, here):
        raise ContractBroken(
            f"in another process its description differs ({'; '.join(changed)}), so a run of it "
            "could neither go on nor share work. Let its loss hold values that are written down, "
            "and change none of them"
        )
    return f"identity {digest(here)}"


def description(path: str) -> Iterator[dict[str, Any]]:
    """What the method of a file describes itself by in this process."""
    file = Path(path)
    yield dict(method_in(load_file(file), file).describe())


def kind_of(module: ModuleType, file: Path) -> Literal["method", "task"]:
    """Whether the file is a method or a task; PluginError if it is neither or both."""
    has = [name for name in ("METHOD", "TASK") if hasattr(module, name)]
    if len(has) != 1:
        found = " and ".join(has) if has else "neither METHOD nor TASK"
        raise PluginError(f"{file}: has {found}; a plugin file holds exactly one of the two")
    return "method" if has == ["METHOD"] else "task"


def _opens_with_a_sentence(file: Path) -> str:
    text = ast.get_docstring(_parsed(file)) or ""
    first = text.strip().split("\n")[0]
    if not first.endswith("."):
        raise ContractBroken("the file does not open with one sentence that says what it is for")
    return first


def _imports_at_module_level(file: Path) -> str:
    for module, line in imported(_parsed(file), nested=False):
        root = module.partition(".")[0]
        if root in HEAVY:
            raise ContractBroken(f"line {line} imports {module}; import it inside the function")
        if root != "opcd_bench" and root not in sys.stdlib_module_names:
            raise ContractBroken(
                f"line {line} imports {module}; at module level a plugin imports the standard "
                "library and opcd_bench alone"
            )
        if not _is_public(module):
            raise ContractBroken(
                f"line {line} imports {module}; of opcd_bench a plugin imports names "
                "(from opcd_bench import Method, named) and opcd_bench.envs alone"
            )
        for package in (registry.METHODS_PACKAGE, registry.TASKS_PACKAGE):
            if module == package or (
                module.startswith(f"{package}.") and not module.split(".")[2].startswith("_")
            ):
                raise ContractBroken(f"line {line} imports another plugin: {module}")
    return ""


def _is_public(module: str) -> bool:
    """False for a folder or a module of the harness that is not there for plugins."""
    names = module.split(".")
    if names[0] != "opcd_bench" or len(names) == 1 or names[1] == "envs":
        return True
    inside = f"opcd_bench.{names[1]}"
    plugins = (registry.METHODS_PACKAGE, registry.TASKS_PACKAGE)
    return inside in plugins or importlib.util.find_spec(inside) is None


def _loads_without_torch(file: Path) -> str:
    tried = foreign.tried_file(file, file.read_bytes())
    if problem := tried.problem or tried.raised:
        raise ContractBroken(f"does not load: {problem}")
    if heavy := [name for name in HEAVY if name in tried.modules]:
        raise ContractBroken(f"importing it loads {' '.join(heavy)}")
    return ""


FILE_CONTRACTS: tuple[Contract[Path], ...] = (
    Contract("opens with one sentence that says what it is for", _opens_with_a_sentence),
    Contract("imports nothing heavy and no other plugin", _imports_at_module_level),
    Contract("loads in a fresh interpreter without torch", _loads_without_torch),
)


def imported(tree: ast.Module, *, nested: bool) -> Iterator[tuple[str, int]]:
    """(module, line) of every absolute import; ``nested`` also inside functions."""
    for node in ast.walk(tree) if nested else _at_module_level(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _at_module_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Every statement that runs on import, those under if / try included, TYPE_CHECKING not."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop(0)
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            waiting += [
                child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)
            ]


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_bytes(), filename=str(file))


def _taken(file: Path, kind: str) -> tuple[Contract[Path], ...]:
    package = registry.METHODS_PACKAGE if kind == "method" else registry.TASKS_PACKAGE
    group = METHODS_GROUP if kind == "method" else TASKS_GROUP

    def name_is_free(file: Path) -> str:
        owner = registry.plugin_files(package).get(file.stem)
        if owner is not None and owner.resolve() != file:
            raise ContractBroken(f"{file.stem!r} is taken by {owner}; choose another name")
        for one in packaged(group).get(file.stem, ()):
            if _file_of(one) != file:
                raise ContractBroken(f"{file.stem!r} is taken by {one.where}; choose another name")
            return f"brought by {one.where}"
        return "ships with opcd-bench" if owner is not None else "given by its path"

    return (Contract("no other file has its name", name_is_free),)


def _file_of(brought: Packaged) -> Path | None:
    """The file of a package's plugin; None where it has none that can be found."""
    try:
        spec = importlib.util.find_spec(brought.module)
    except ImportError:
        return None
    return Path(spec.origin).resolve() if spec is not None and spec.origin is not None else None
