"""Ctrl-C once or more, SIGTERM and SIGHUP: a hint, the exit code, and nothing that is left."""

import os
import signal
import sys
import time

import pytest
from test_run import begun, members

from opcd_bench.cli import interrupt, main


@pytest.fixture(autouse=True)
def interruptible():
    """As in a terminal: a shell's background job, which may run these tests, ignores ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("jobs", "number", "word"),
    [(2, signal.SIGINT, "Interrupted"), (1, signal.SIGTERM, "Terminated")],
)
def test_a_signal_to_the_run_alone_ends_its_workers_too(
    tiny_model_folder, tmp_path, jobs, number, word
):
    """Workers would go on to the end of their cells, unseen, and the run wait for them."""
    process = begun(tiny_model_folder, tmp_path, jobs=jobs)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert f"{word}. Nothing is lost; to continue, type the same command again:" in err
    assert "Traceback" not in err and "semaphore" not in err
    assert gone(process.pid)


def test_ctrl_c_three_times_is_answered_as_once(tiny_model_folder, tmp_path):
    process = begun(tiny_model_folder, tmp_path, jobs=2)
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.03)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err and "semaphore" not in err
    assert gone(process.pid)


def gone(group):
    """Whether no process of a group is left, after a moment."""
    for _ in range(50):
        if not members(group):
            return True
        time.sleep(0.1)
    return False


def test_the_first_signal_ends_the_second_is_answered_and_the_third_leaves(monkeypatch, capfd):
    left = []
    monkeypatch.setattr(interrupt.os, "_exit", left.append)
    with interrupt.stoppable():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert "once more leaves at once" in capfd.readouterr().err and not left
        signal.raise_signal(signal.SIGINT)
    assert left == [143]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_error_that_a_library_made_of_a_signal_is_that_signal(monkeypatch, capsys):
    """As matplotlib's compiled code does: ValueError("Invalid affine transformation matrix")."""

    def drawing(*_, **__):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ValueError("Invalid affine transformation matrix") from None

    monkeypatch.setattr("opcd_bench.cli.report.located", drawing)
    with pytest.raises(SystemExit) as left:
        main.entry(["report", "results/quick"])
    assert left.value.code == 143
    assert capsys.readouterr().err.strip() == "Terminated."


def test_an_error_without_a_signal_stays_an_error(monkeypatch):
    def drawing(*_, **__):
        raise ValueError("a fault of ours")

    monkeypatch.setattr("opcd_bench.cli.report.located", drawing)
    with pytest.raises(ValueError, match="a fault of ours"):
        main.entry(["report", "results/quick"])


def test_what_the_caller_ignores_stays_ignored(monkeypatch):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupt.stoppable():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_command_that_keeps_nothing_says_that_it_was_interrupted(opcd, monkeypatch):
    def listed():
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys.modules["opcd_bench.runner.registry"], "suites", listed)
    told = opcd("suites")
    assert (told.code, told.err, told.out) == (130, "\nInterrupted.\n", "")
