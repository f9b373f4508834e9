"""`opcd-bench run --processes 2`: a killed process ends all with one message; it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

PYTHON = [sys.executable, "-m"]
WORDS = (
    "run --suite quick --methods opcd --jobs 1 --name two --retention none --no-report "
    "--device cpu --set max_steps=3 --set eval_steps=3 --set save_steps=1 --set dev_items=2 "
    "--set test_items=2 --set batch_size=2 --set max_completion_length=16"
).split()


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def rank_of(pid: int) -> str | None:
    for entry in Path(f"/proc/{pid}/environ").read_text().split("\0"):
        if entry.startswith("RANK="):
            return entry.removeprefix("RANK=")
    return None


def process_of_rank(parent: int, rank: str) -> int:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return next(int(child) for child in children if rank_of(int(child)) == rank)


def test_a_killed_process_ends_all_with_one_message_and_torchrun_goes_on(tmp_path):
    ours = subprocess.Popen(
        [*PYTHON, "opcd_bench", *WORDS, "--processes", "2"],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until, rows = time.monotonic() + 150, ""
    while not rows.count("\n") and ours.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
        rows = "".join(f.read_text() for f in tmp_path.glob("results/two/*/train.jsonl"))
    if ours.poll() is None:
        os.kill(process_of_rank(ours.pid, "1"), signal.SIGKILL)
    _, said = ours.communicate(timeout=60)
    assert ours.returncode == 2, said
    assert said.count("process 1 of 2 was ended by SIGKILL") == 1
    assert said.count("type the same command again") == 1
    assert "Traceback" not in said and "rank" not in said
    assert not list(tmp_path.glob("results/two/*/DONE"))

    torchrun = [*PYTHON, "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    done = subprocess.run(
        [*torchrun, "opcd_bench", *WORDS],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1 of 1 cells done, 0 failed") == 1, "the first process alone prints"
    (sealed,) = tmp_path.glob("results/two/*/DONE")
    events = (sealed.parent / "events.jsonl").read_text()
    assert '"kind":"resumed"' in events.replace(" ", "")
    assert '"processes":2' in (sealed.parent / "config.json").read_text().replace(" ", "")
