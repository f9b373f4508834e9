"""One arrow per layer, kept by reading the imports; and listings that never load torch."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from opcd_bench.checks import HEAVY, imported

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "opcd_bench"
PLUGIN_FOLDERS = {"opcd_bench.baselines": ROOT / "baselines", "opcd_bench.tasks": ROOT / "tasks"}

LAYERS = {
    "foundation": {
        "errors", "seeds", "config", "suite_checks", "method", "task", "divergence", "loss_rules",
        "progress",
        "files", "jsonl", "checkpoints", "run_reader", "suite_dir", "suite_file", "store",
        "verification",
        "environment", "tracker", "suites", "textarena", "game_episode", "game_floors",
        "math_episode", "question_task", "data_files", "data_sets", "data_splits", "math_answers",
        "thinking",
        "micro.world", "chain_settings", "chain_dir",
    },
    "models": {
        "cpu", "models", "model_source", "adapters", "optimiser", "memory", "stopwatch",
        "footprint", "model_card", "losses", "supports", "scoring", "rollout",
        "ifeval", "lm_eval_model", "lm_eval_tasks", "retention_guard", "retention_tasks", "micro",
    },
    "work": {
        "training", "teaching", "evaluation", "retention", "experience", "writers", "audit",
        "report",
    },
    "grid": {
        "registry", "grid", "cell", "workbench", "serving", "runner", "audit_batch", "checks",
        "estimate", "pace", "workload",
        "method_checks", "task_checks", "micro.card", "experience.chain", "experience.round",
        "experience.rounds",
    },
    "cli": {"cli"},
}  # fmt: skip
"""From the lowest to the highest; a module imports its own layer and those below. A package's name
stands for all of its modules, unless one of them is named apart."""

UPWARDS = {("divergence", "losses")}
"""Imports inside a function that point upwards: a loss is called through its description."""

REPORT_READS = {
    "report", "store", "run_reader", "suite_dir", "verification", "checkpoints", "jsonl", "files",
    "config", "errors", "chain_dir",
}  # fmt: skip

WITHOUT_TORCH = (
    "errors", "config", "method", "divergence", "loss_rules", "task", "registry", "grid", "seeds",
    "progress", "store", "verification", "environment", "checks", "task_checks", "cli.main",
    "experience.chain", "cli.chains",
)  # fmt: skip
"""Besides every module of the report."""


def modules():
    """Every module of the harness: name without ``opcd_bench.`` -> file."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts).removesuffix("__init__").rstrip(".")] = file
    return {name: file for name, file in found.items() if name}


def imports(file, known, *, nested):
    """The harness's modules that a file imports."""
    for module, _ in imported(ast.parse(file.read_bytes()), nested=nested):
        name = module.removeprefix("opcd_bench.")
        if module.startswith("opcd_bench.") and name in known:
            yield name


def layer_of(name):
    """The number of a module's layer; None if the table above does not have it."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        for number, members in enumerate(LAYERS.values()):
            if prefix in members:
                return number
    return None


def points_upwards(name, other):
    """Whether ``other`` is in a higher layer; what has no layer is another test's affair."""
    here, there = layer_of(name), layer_of(other)
    return here is not None and there is not None and there > here


def test_every_module_belongs_to_a_layer():
    unplaced = [name for name in modules() if layer_of(name) is None]
    assert not unplaced, f"say in tests/unit/test_layers.py, LAYERS, where {unplaced} belong"


def test_no_module_imports_a_higher_layer():
    known = modules()
    wrong = [
        f"{name} imports {other}"
        for name, file in known.items()
        for other in set(imports(file, known, nested=False))
        if points_upwards(name, other)
    ]
    assert wrong == []


def test_an_import_inside_a_function_points_upwards_only_where_it_is_listed():
    known = modules()
    wrong = [
        f"{name} imports {other}"
        for name, file in known.items()
        for other in set(imports(file, known, nested=True))
        if points_upwards(name, other) and (name, other) not in UPWARDS
    ]
    assert wrong == []


def test_the_report_reads_only_what_is_stored():
    known = modules()
    for name, file in known.items():
        if name.split(".")[0] == "report":
            heads = {other.split(".")[0] for other in imports(file, known, nested=True)}
            assert heads <= REPORT_READS, f"{name} imports {heads - REPORT_READS}"


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
    names = [*WITHOUT_TORCH, *(name for name in modules() if name.split(".")[0] == "report")]
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
