"""A hundred kills of a whole cell, at calls that change a disk: what is left is finished whole."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from test_cell import run_toy
from test_store_survives_kill import CALLS, killed_at
from toy import toy_suite, truth

from opcd_bench.store.files import is_leftover
from opcd_bench.store.suite_dir import SuiteDir
from opcd_bench.store.tidying import tidy
from opcd_bench.store.verification import verify

KILLS = 100


def suite_of(model: Path, output: Path):
    """Retention on the way, float32 weights behind bfloat16 ones, and a teacher that moves."""
    return toy_suite(
        model, output, methods=["opcd_full"], bf16=True, retention=["ifeval_micro"],
        retention_items=2, retention_max_completion_length=6, max_steps=4,
    )  # fmt: skip


def calls_of(work) -> int:
    """How often a run changes the disk."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def counted(real):
            def call(*args, **kwargs):
                nonlocal count
                count += 1
                return real(*args, **kwargs)

            return call

        real_write = os.write
        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        work()
        real_write(writing, str(count).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(reading, 32))


@pytest.mark.slow
def test_a_hundred_kills_leave_nothing_half_written(tiny_model_folder, tmp_path):
    work = suite_of(tiny_model_folder, tmp_path / "whole")
    uninterrupted = truth(run_toy(work))
    total = calls_of(lambda: run_toy(suite_of(tiny_model_folder, tmp_path / "counted")))
    assert total > 2 * KILLS
    killed = 0
    for number in range(KILLS):
        moment = 1 + number * (total - 1) // (KILLS - 1)
        output = tmp_path / f"at{moment}"
        suite = suite_of(tiny_model_folder, output)
        output.mkdir()
        foreign = output / "foreign.txt"
        foreign.write_text("mine")
        killed += killed_at(lambda suite=suite: run_toy(suite), moment)
        path = run_toy(suite)
        tidy(SuiteDir(output / "toy"))  # as every run begins with
        assert truth(path) == uninterrupted, f"killed at call {moment}"
        assert not [problem for problem in verify(path) if problem.damage]
        assert not [p for p in output.rglob("*") if is_leftover(p.name)], "nothing half written"
        assert foreign.read_text() == "mine"
        assert json.loads((path / "DONE").read_text())["summary"]["chosen_step"] >= 0
    assert killed >= KILLS - 5, "the last calls may come after the last kill"
