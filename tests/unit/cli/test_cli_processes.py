"""Several processes a cell on the command line: what torchrun says, and how their end is told."""

from __future__ import annotations

import signal
import types

import pytest

from opcd_bench.cli import processes, torchrun
from opcd_bench.config.suite import make_suite
from opcd_bench.errors import ConfigError
from opcd_bench.runner import grid, registry


def suite(**values):
    base = {"methods": "opcd", "tasks": "rule_math", "learning_rate": 1e-3, "max_steps": 4}
    return make_suite({**base, **values}, "test")


@pytest.fixture
def of_two(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")


def test_torchrun_says_how_many_processes_there_are(of_two):
    assert processes.settings_of({"processes": None}, []) == {"processes": 2}
    assert processes.settings_of({"processes": 2}, ["seeds=1"]) == {"processes": 2}


@pytest.mark.parametrize("typed", [({"processes": 3}, []), ({"processes": None}, ["processes=2"])])
def test_another_number_than_torchrun_s_is_refused(of_two, typed):
    with pytest.raises(ConfigError, match="torchrun has started 2 processes"):
        processes.settings_of(*typed)


def test_without_torchrun_nothing_is_changed(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # of somebody else
    assert processes.settings_of({"processes": None}, []) == {"processes": None}


def failure(rank, code, at=0.0):
    return types.SimpleNamespace(local_rank=rank, exitcode=code, timestamp=at)


def told(capsys, *failures):
    code = torchrun._told(failures, suite(processes=2), ["run", "--processes", "2"])
    return code, capsys.readouterr().err


def test_the_process_that_ended_first_is_named_and_not_those_that_it_left(capsys):
    code, said = told(
        capsys,
        failure(0, processes.LOST_A_PEER, 1.0),
        failure(1, -signal.SIGKILL, 2.0),
    )
    assert code == 2
    assert said.startswith("opcd-bench: process 1 of 2 was ended by SIGKILL")
    assert said.endswith("type the same command again:\n  opcd-bench run --processes 2\n")


def test_what_the_first_process_has_said_is_not_said_again(capsys):
    assert told(capsys, failure(0, 2), failure(1, -signal.SIGTERM)) == (2, "")


def test_an_error_of_another_process_points_to_what_that_printed(capsys):
    code, said = told(capsys, failure(1, 1, 1.0), failure(0, 128 + signal.SIGTERM, 0.5))
    assert code == 2 and "process 1 of 2 failed; its error stands above" in said


def names(asked):
    return [cell.name for cell in grid.cells(asked, *registry.plugins_of(asked))]


def test_the_number_of_processes_names_a_run_only_where_it_is_above_one():
    assert names(suite()) == names(suite(processes=1)) != names(suite(processes=2))
    assert "processes" not in suite().identity() and suite(processes=2).identity()["processes"] == 2


def test_a_program_of_one_s_own_is_told_that_the_command_line_starts_processes():
    from opcd_bench.progress import QuietReporter
    from opcd_bench.runner.rounds import any_suite

    with pytest.raises(ConfigError, match="the command line starts them"):
        any_suite.run(suite(processes=2, retention=[]), console=QuietReporter())


@pytest.mark.parametrize(("gpus", "device", "refused"), [
    (0, "auto", None), (0, "cuda", "no CUDA device"), (1, "auto", "this machine has 1"),
    (1, "cpu", None), (2, "auto", None),
])  # fmt: skip
def test_each_process_takes_a_gpu_of_its_own_where_there_are_any(
    gpus, device, refused, monkeypatch
):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    asked = suite(processes=2, device=device)
    if refused is None:
        processes.refuse_too_few_gpus(asked, 2)
        return
    with pytest.raises(ConfigError, match=refused):
        processes.refuse_too_few_gpus(asked, 2)
