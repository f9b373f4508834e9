"""What stored results are called: values that no move and no renaming may change."""

from pathlib import Path

import pytest

from opcd_bench.hashing import digest
from opcd_bench.progress import QuietReporter
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.rollout.vllm import ServedEngine, VLLMEngine
from opcd_bench.runner import grid, registry, requested
from opcd_bench.runner.resources import Resources
from opcd_bench.store.suite_dir import SuiteDir

REFERENCE = Path(__file__).parents[2] / "results" / "reference"

CELLS = {
    "micro": (36, "64489a361c"),
    "paper_cross_size": (7, "7c00bc6c49"),
    "paper_frozen_lake": (4, "8f2a352b92"),
    "paper_math": (4, "c8c9632306"),
    "paper_medical": (4, "27b59399d5"),
    "paper_safety": (4, "f997367841"),
    "paper_sokoban": (4, "7bec53f946"),
    "quick": (4, "850499b75e"),
}
"""Suite (in its size ``smoke`` where it has one) -> number of cells, digest of their names."""

METHODS = {
    "control_constant": "65827b71b4",
    "control_k1": "4290050f8a",
    "control_null": "a27f8c08fa",
    "control_shuffled": "543c39bef7",
    "forward_kl": "d1d0446c21",
    "forward_kl_larger": "978149157c",
    "forward_kl_on_policy": "21c2e0eb9c",
    "grpo": "9acecfafdf",
    "jsd": "7d30babcbc",
    "opcd": "0fc4809454",
    "opcd_full": "8181f97642",
    "opcd_full_leak": "f36ccdd4f1",
    "opcd_hybrid": "2503bf20fa",
    "opcd_larger": "20d115db37",
    "opcd_larger_plain": "7f6f172432",
    "opcd_live": "53079c2402",
    "opcd_renorm": "8b79dc93fa",
    "opcd_stop_gradient": "2216c16075",
    "opcd_tail": "20529cc559",
    "opsd": "ba727001c9",
    "reverse_kl_off_policy": "b7e3e068e8",
    "sdft_ema": "3490320ac2",
    "sft_context": "29ff0823ee",
    "sft_context_larger": "15a7f62f01",
    "sft_kl": "17be856488",
    "sft_then_opcd": "75ac1e9fd2",
    "taid": "c5bd6a1ffd",
}


@pytest.mark.parametrize("name", CELLS)
def test_the_runs_of_a_shipped_suite_keep_their_names(name):
    size = "smoke" if "smoke" in registry.suite_sizes(name) else None
    suite = registry.suite(name, size=size)
    cells = grid.cells(suite, *registry.plugins_of(suite))
    assert (len(cells), digest([cell.name for cell in cells])) == CELLS[name]


@pytest.mark.parametrize("name", METHODS)
def test_a_shipped_method_keeps_its_identity(name):
    assert digest(registry.method(name).describe()) == METHODS[name]


def test_every_shipped_method_has_its_identity_here():
    assert registry.known("method") == sorted(METHODS)


def test_the_sealed_runs_have_the_names_that_their_suite_gives_today():
    suite = requested.suite(registry.suite("micro"), {}, "a test")
    plugins = registry.plugins_of(suite)
    named = {cell.name for cell in grid.cells(suite, *plugins)}
    for rate in suite.learning_rate:
        rates = {(task, method): rate for task in suite.tasks for method in suite.methods}
        named |= {cell.name for cell in grid.headline_cells(suite, *plugins, rates)}
    sealed = {path.name for path in SuiteDir(REFERENCE / "micro").runs()}
    assert sealed and sealed <= named


def test_shared_samples_are_found_where_the_sealed_suite_has_them(tmp_path):
    suite = requested.suite(registry.suite("micro"), {}, "a test")
    bench = Resources(suite, SuiteDir(tmp_path / "micro"), QuietReporter())
    tasks = registry.plugins_of(suite)[1].values()
    found = {bench.references.folder(task, 0).path.name for task in tasks}
    found |= {bench.references.retention_folder(name).path.name for name in suite.retention}
    there = (path.name for path in (REFERENCE / "micro" / "shared").iterdir())
    stored = {name for name in there if not name.startswith("told-")}  # these are not committed
    assert stored and stored <= found


def test_engines_enter_a_protocol_by_names_that_are_no_class_names():
    names = {engine: engine.protocol_name for engine in (HFEngine, VLLMEngine, ServedEngine)}
    assert names == {
        HFEngine: "HFEngine",
        VLLMEngine: "VLLMEngine",
        ServedEngine: "ServedEngine",
    }
