"""Jobs in the processes that do them: what they were asked for, or nothing."""

import contextlib
import weakref
from pathlib import Path
from typing import ClassVar

import pytest
from toy import Toy, toy_suite

from opcd_bench.progress import QuietReporter
from opcd_bench.runner import grid, hands, registry
from opcd_bench.runner.cluster.jobs import Job
from opcd_bench.runner.plan import plan
from opcd_bench.runner.rounds import chain as chains
from opcd_bench.runner.rounds import rounds
from opcd_bench.store.suite_dir import SuiteDir

METHOD = (Path(registry.__file__).parents[2] / "baselines" / "opcd_full.py").read_text()


@pytest.fixture
def edited(tiny_model_folder, tmp_path):
    """A suite with a method and a context in files, and an edit of each of them."""
    method, context = tmp_path / "mine.py", tmp_path / "ctx.txt"
    method.write_text(METHOD.replace('"opcd_full"', '"mine"'))
    context.write_text("Walk around the holes.")

    def edit() -> None:
        method.write_text(method.read_text().replace("rkl_full", "fkl_full"))
        context.write_text("Walk through the holes.")

    def suite(**values):
        own = {"methods": [str(method)], "tasks": ["frozen_lake"], "device": "cpu"}
        return toy_suite(tiny_model_folder, tmp_path / "results", **{**own, **values})

    return suite, context, edit


def test_a_queued_cell_trains_nothing_where_its_method_or_context_was_changed_since(edited):
    suite, context, edit = edited
    asked = suite(context=[str(context)])
    planned = plan(asked)
    (cell,) = grid.cells(asked, planned.methods, planned.tasks)
    edit()
    held = hands.load(asked)
    outcome = hands.do(Job("cell", cell.name, cell), held)
    assert outcome.cell == cell.name and outcome.problem is not None
    for said in ("method.source_hash", "task.context_hash", "Type the command again"):
        assert said in outcome.problem
    assert held[1].suite_dir.runs() == [], "nothing is sealed under another cell's name"


def test_a_queued_chain_trains_nothing_where_its_method_was_changed_since(edited):
    suite, _, edit = edited
    asked = suite(rounds=2)
    (chain,) = chains.chains(asked)
    edit()
    outcome = rounds.do(Job("chain", chain.name, 0), rounds.load(asked))
    assert outcome.cell == chain.name
    assert outcome.problem is not None and "Type the command again" in outcome.problem
    assert not chain.folder(asked).path.exists()


def test_workers_find_the_memory_of_the_command_that_started_them_free(
    tiny_model_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(registry, "task", lambda *_, **__: Toy())
    suite = toy_suite(tiny_model_folder, tmp_path, seeds=2, jobs=2)
    planned, suite_dir = plan(suite), SuiteDir(tmp_path / "toy")
    alive = []

    class Elsewhere:
        shared_seconds: ClassVar = {}

        def __init__(self, *_):
            alive.append(held() is not None)

        def do_all(self, cells):
            pass

    monkeypatch.setattr(hands, "open_executor", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(hands, "Spread", Elsewhere)
    with hands.opened(planned, suite_dir, QuietReporter()) as here:
        held = weakref.ref(here.resources.models.initial.model)
        here.do_all(grid.cells(suite, planned.methods, planned.tasks))
    assert alive == [False]
