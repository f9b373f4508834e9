"""A SLURM of one machine: sbatch, srun, sacct, squeue, scancel and scontrol, jobs as processes.

``install`` writes the commands into a folder for PATH; the state of every job lies in files below
it, as ``<job id>/{script,state,pid,starts}``. It knows of sbatch what submitit writes. With a file
``held`` there no job is started, with ``no-accounting`` sacct fails, with ``hidden`` all are in a
hidden partition; ``max-submit`` holds the most jobs that a user may have there.
"""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "squeue", "scancel", "scontrol")

MOST = 1001
"""MaxArraySize: the index of an array's job is below it."""


def install(folder: Path) -> Path:
    """The commands, in ``folder``/bin; every call of one is a line of ``folder``/calls."""
    commands = folder / "bin"
    commands.mkdir(parents=True)
    for name in COMMANDS:
        file = commands / name
        file.write_text(
            f'#!/bin/sh\nFAKE_SLURM={folder} exec {sys.executable} {__file__} {name} "$@"\n'
        )
        file.chmod(0o755)
    return commands


def jobs(folder: Path) -> dict[str, str]:
    """Job id -> state."""
    return {one.parent.name: one.read_text() for one in folder.glob("*/state")}


def _write(job: Path, name: str, text: str) -> None:
    partial = job / f".{name}"
    partial.write_text(text)
    os.replace(partial, job / name)


def sbatch(root: Path, script: str) -> None:
    text = Path(script).read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", text, re.M))
    tasks = []
    width = None
    if array := options.get("array"):
        first, last, width = re.fullmatch(r"(\d+)-(\d+)(?:%(\d+))?", array).groups()
        tasks = range(int(first), int(last) + 1)
        if int(last) >= MOST:
            sys.exit("sbatch: error: Batch job submission failed: Invalid job array specification")
    if (limit := root / "max-submit").exists():
        ours = [state for state in jobs(root).values() if state in ("PENDING", "RUNNING")]
        if len(ours) + (len(tasks) or 1) > int(limit.read_text()):
            sys.exit("sbatch: error: QOSMaxSubmitJobPerUserLimit")
    number = str(1 + sum(1 for _ in root.glob("submitted-*")))
    (root / f"submitted-{number}").write_text(json.dumps(options))
    names = [f"{number}_{task}" for task in tasks] or [number]
    for name in names:
        (root / name).mkdir()
        (root / name / "script").write_text(text)
        _write(root / name, "state", "PENDING")
    again = [sys.executable, __file__, "serve", str(width or len(names)), *names]
    if not (root / "held").exists():
        subprocess.Popen(again, start_new_session=True, stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    print(f"Submitted batch job {number}")


def serve(root: Path, width: str, *names: str) -> None:
    """Run jobs, ``width`` at a time, as long as one is pending (a requeued one is again)."""
    running: dict[str, subprocess.Popen] = {}
    while True:
        states = {name: (root / name / "state").read_text() for name in names}
        for name, process in list(running.items()):
            if process.poll() is None:
                continue
            del running[name]
            if (root / name / "requeued").exists():
                (root / name / "requeued").unlink()
                _write(root / name, "state", "PENDING")
            elif states[name] == "RUNNING":
                _write(root / name, "state", "COMPLETED" if process.returncode == 0 else "FAILED")
        for name in names:
            if len(running) < int(width) and (root / name / "state").read_text() == "PENDING":
                running[name] = _started(root / name)
        if not running and "PENDING" not in jobs(root).values():
            return
        time.sleep(0.05)


def _started(job: Path) -> subprocess.Popen:
    array, _, task = job.name.partition("_")
    starts = job / "starts"
    given = {"SLURM_JOB_ID": job.name.replace("_", "00"), "SLURM_JOB_NODELIST": "node1"}
    if task:
        given |= {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": task}
    else:
        given["SLURM_JOB_ID"] = array
    process = subprocess.Popen(["bash", str(job / "script")], start_new_session=True,
                               env={**os.environ, **given})  # fmt: skip
    _write(job, "pid", str(process.pid))
    _write(job, "starts", str(1 + int(starts.read_text() if starts.exists() else "0")))
    _write(job, "state", "RUNNING")
    return process


def srun(_: Path, *words: str) -> None:
    own = list(words)
    while own and own[0].startswith("-"):
        option = own.pop(0)
        if option in ("--output", "--error"):
            stream = open(
                own.pop(0).replace("%t", "0").replace("%j", _job()).replace("%A_%a", _job()), "a"
            )
            os.dup2(stream.fileno(), 1 if option == "--output" else 2)
    os.execvpe(own[0], own, {**os.environ, "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
                             "SLURM_NODEID": "0", "SLURM_NTASKS": "1",
                             "SLURM_JOB_NUM_NODES": "1"})  # fmt: skip


def _job() -> str:
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


SHOWN = "PENDING,RUNNING,COMPLETING"
"""States that squeue lists unless others are asked for; a suspended job's is none of them."""


def squeue(root: Path, *words: str) -> None:
    """Jobs of the states asked for; with a file ``hidden``, those of other partitions' with --all.

    A job that ended is known until it is ``GONE``; SQUEUE_STATES and SQUEUE_PARTITION hold as the
    options do, SQUEUE_FORMAT does not, since a format is given.
    """
    given = dict(re.findall(r"--(\S+?)(?:=|$)(.*)", word)[0] for word in words)
    assert {"array", "noheader"} <= given.keys() and given["user"] == str(os.getuid())
    states = given.get("states") or os.environ.get("SQUEUE_STATES", SHOWN)
    hidden = (root / "hidden").exists() and "all" not in given
    if hidden or os.environ.get("SQUEUE_PARTITION"):
        return
    for name, state in sorted(jobs(root).items()):
        if state != "GONE" and (states == "all" or state in states.split(",")):
            print(given["format"].replace("%i", name).replace("%T", state))


def sacct(root: Path, *words: str) -> None:
    if (root / "no-accounting").exists():
        sys.exit("Slurm accounting storage is disabled")
    wanted = {after for word, after in itertools.pairwise(words) if word == "-j"}
    print("JobID|State|NodeList")
    for name, state in sorted(jobs(root).items()):
        if name in wanted or name.split("_")[0] in wanted:
            print(f"{name}|{state}|node1")


def scancel(root: Path, number: str, flag: str = "", word: str = "KILL") -> None:
    if (root / number / "pid").exists():
        send(root, number, word.removeprefix("SIG"))
    if not flag:
        _write(root / number, "state", "CANCELLED")


def send(root: Path, number: str, word: str) -> None:
    """A signal to the steps of a job; one that ends it goes to its batch shell too."""
    shell, sent = int((root / number / "pid").read_text()), getattr(signal, f"SIG{word}")
    if word in ("KILL", "TERM"):
        os.killpg(shell, sent)
        return
    for _ in range(1200):  # before a step has its handler, the signal would just end it
        ready = [pid for pid in _steps(shell) if _catches(pid, sent)]
        if ready:
            break
        time.sleep(0.1)
    for pid in ready:
        os.kill(pid, sent)


def reach_time_limit(root: Path, number: str) -> None:
    """What happens shortly before it: the signal that the script asked for, to the job's steps."""
    script = (root / number / "script").read_text()
    asked = re.search(r"^#SBATCH --signal=(?:B:)?(\w+)@\d+$", script, re.M)
    assert asked, "the script asks for no signal"
    send(root, number, asked[1])


def _steps(shell: int) -> list[int]:
    """The processes of a job's group, but for its batch shell."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            group = int(stat.read_text().rpartition(")")[2].split()[2])
        except OSError:
            continue
        if group == shell and int(stat.parent.name) != shell:
            found.append(int(stat.parent.name))
    return found


def _catches(pid: int, number: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = int(re.search(r"^SigCgt:\s*(\w+)", status, re.M).group(1), 16)
    return bool(caught >> (number - 1) & 1)


def scontrol(root: Path, _: str, number: str) -> None:
    (root / number / "requeued").touch()


if __name__ == "__main__":
    folder = Path(os.environ["FAKE_SLURM"])
    with (folder / "calls").open("a") as calls:
        calls.write(" ".join(sys.argv[1:]) + "\n")
    globals()[sys.argv[1]](folder, *sys.argv[2:])
