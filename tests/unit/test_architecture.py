"""Imports go one way down the list of folders; and listings never load torch."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from opcd_bench.runner.contracts.checks import imported
from opcd_bench.runner.contracts.contract import HEAVY

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "opcd_bench"
PLUGIN_FOLDERS = {"opcd_bench.baselines": ROOT / "baselines", "opcd_bench.tasks": ROOT / "tasks"}

ABOVE = ("__main__", "api")
"""What stands above the folders: the command line as a module, and what the public face offers.

The face itself, ``opcd_bench/__init__.py``, stands above all; nothing imports it.
"""

LAYERS = (
    "cli",
    "runner.estimate",
    "runner.rounds",
    "runner.contracts",
    "runner",
    "runner.cluster",
    "experience",
    "distillation",
    "distillation.losses",
    "evaluation",
    "rollout",
    "models",
    "report",
    "report.page",
    "report.figures",
    "report.tables",
    "report.analysis",
    "config",
    "envs",
    "store",
)
"""The folders of ``opcd_bench/`` from the top down; each imports only itself and those below it."""

ROOT_MODULES = ("errors", "seeds", "hashing", "printable", "progress", "version", "preemption")
"""What everything may use; they import one another alone."""

REPORT_READS = ("report", "config", "envs", "store", *ROOT_MODULES)

WITHOUT_TORCH = (
    "api", "cli.main", "cli.chains", "runner.registry", "runner.requested", "runner.grid",
    "runner.model_folders", "runner.rounds.any_suite", "runner.rounds.chain",
    "runner.contracts.checks", "runner.contracts.task_checks", "distillation.method",
    "distillation.losses.divergence", "distillation.losses.rules", "distillation.losses.served",
)  # fmt: skip
"""Besides every module of the report, config and store, and those at the root."""


def modules():
    """Every module of the harness: name without ``opcd_bench.`` -> file."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts).removesuffix("__init__").rstrip(".")] = file
    return {name: file for name, file in found.items() if name}


def imports(name, known):
    """The harness's modules that one imports, wherever in its file and however it says so."""
    tree = ast.parse(known[name].read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}, line {node.lineno}: a relative import"
    named = {module for module, _ in imported(tree, nested=True)}
    # Modules that are imported by a name in a text: importlib, resources.files, monkeypatching.
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            named.add(str(node.args[0].value))
    for module in named:
        other = module.removeprefix("opcd_bench.")
        if module.startswith("opcd_bench.") and other in known and other != name:
            yield other


def graph():
    """Module -> the modules that it imports."""
    known = modules()
    return {name: sorted(set(imports(name, known))) for name in known}


def layer_of(name):
    """The place of a module in the lists above: -1 is the top, what everything may use is last."""
    if name in ABOVE:
        return -1
    folders = [folder for folder in LAYERS if f"{name}.".startswith(f"{folder}.")]
    if folders:
        return LAYERS.index(max(folders, key=len))
    assert name in ROOT_MODULES, f"say in tests/unit/test_architecture.py where {name} belongs"
    return len(LAYERS)


def test_no_module_imports_one_of_a_folder_above_its_own():
    wrong = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if layer_of(other) < layer_of(name)
    ]
    assert wrong == []


def test_no_module_imports_itself_through_others():
    order = graphlib.TopologicalSorter(graph())
    order.prepare()  # raises CycleError with the modules of a circle


def test_nothing_inside_imports_the_public_face():
    below = {*ROOT_MODULES, *(folder.split(".")[0] for folder in LAYERS)}
    for name, file in modules().items():
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module == "opcd_bench":
                assert {alias.name for alias in node.names} <= below, (name, node.lineno)
            if isinstance(node, ast.Import):
                assert "opcd_bench" not in {alias.name for alias in node.names}, (name, node.lineno)


def test_the_page_of_the_architecture_has_a_line_for_every_file():
    """Folders in their order; a file's line is the first sentence of its docstring."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## `([\w/]+)/`$", page, flags=re.MULTILINE)
    assert [heading.replace("/", ".") for heading in headings] == list(LAYERS)
    lines = re.findall(r"^- `([\w/.]+)`: (.+)$", page, flags=re.MULTILINE)
    wanted = [
        (place_on_page(name), ast.get_docstring(ast.parse(file.read_bytes())).split("\n\n")[0])
        for name, file in modules().items()
        if file.name != "__init__.py"
    ]
    said = [(place, " ".join(text.split())) for place, text in wanted]
    assert sorted(lines) == sorted(said)


def place_on_page(name):
    """A module's file as its folder's list has it."""
    folders = [folder for folder in LAYERS if f"{name}.".startswith(f"{folder}.")]
    inside = name.removeprefix(f"{max(folders, key=len)}.") if folders else name
    return inside.replace(".", "/") + ".py"


def test_the_report_reads_only_what_is_stored():
    for name, others in graph().items():
        if name.split(".")[0] == "report":
            heads = {other.split(".")[0] for other in others}
            assert heads <= set(REPORT_READS), f"{name} imports {heads - set(REPORT_READS)}"


def test_the_harness_names_no_plugin():
    plugins = {
        f"{package}.{file.stem}"
        for package, folder in PLUGIN_FOLDERS.items()
        for file in folder.glob("*.py")
    }
    for name, file in modules().items():
        named = {module for module, _ in imported(ast.parse(file.read_bytes()), nested=True)}
        assert not named & plugins, f"{name} imports {named & plugins}"


def test_plugin_folders_are_flat():
    for folder in PLUGIN_FOLDERS.values():
        assert not [file for file in folder.rglob("*.py") if file.parent != folder]


def test_the_packages_of_pyproject_are_the_folders_on_disk():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    on_disk = {
        ".".join(file.parent.relative_to(ROOT).parts) for file in PACKAGE.rglob("__init__.py")
    }
    assert set(settings["packages"]) == on_disk | set(PLUGIN_FOLDERS)
    assert settings["package-dir"] == {name: folder.name for name, folder in PLUGIN_FOLDERS.items()}
    without_init = {
        file.parent for file in PACKAGE.rglob("*.py") if not (file.parent / "__init__.py").exists()
    }
    assert not without_init


@pytest.mark.parametrize("name", ["baselines", "tasks"])
def test_a_plugin_folder_refuses_to_be_imported_under_its_bare_name(name):
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"import opcd_bench.{name}, not {name}" in done.stderr


def python(program, cwd):
    """What a fresh interpreter prints, and its exit code."""
    return subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, timeout=300
    )


def test_the_modules_without_torch_load_none(tmp_path):
    light = ("report", "config", "store", *ROOT_MODULES)
    names = [*WITHOUT_TORCH, *(name for name in modules() if name.split(".")[0] in light)]
    assert len(names) > len(WITHOUT_TORCH)
    done = python(
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module('opcd_bench.' + name)\n"
        f"    heavy = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "    assert not heavy, (name, heavy)\n",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_listings_load_no_torch(tmp_path):
    commands = [
        ["--help"], ["run", "--help"], ["--version"], ["methods"], ["methods", "--json"], ["tasks"],
        ["suites"], ["run", "--methods", "opcd", "--tasks", "frozen_lake", "--dry-run"],
        ["estimate", "--help"], ["extract", "--help"], ["select", "--help"],
        ["report", "--help"], ["compare", "--help"], ["import-lm-eval", "--help"],
    ]  # fmt: skip
    done = python(
        "import sys\n"
        "from opcd_bench.cli.main import entry\n"
        f"for words in {commands!r}:\n"
        "    try:\n"
        "        entry(words)\n"
        "    except SystemExit as left:\n"
        "        assert not left.code, (words, left.code)\n"
        "    assert 'torch' not in sys.modules, words\n"
        "    assert 'transformers' not in sys.modules, words\n",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "opcd_stop_gradient" in done.stdout


def test_no_two_test_files_have_one_name():
    """Pytest imports a test file by its bare name, and refuses the second of two."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
