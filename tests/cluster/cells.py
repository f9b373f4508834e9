"""What the processes of a test do: whole cells, and such that fail and go on; see test_cells."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from toy import Toy, toy_suite

from opcd_bench.distillation.method import Teacher
from opcd_bench.distillation.parallel import peers
from opcd_bench.progress import QuietReporter
from opcd_bench.runner import registry, suite_runner
from opcd_bench.runner.parallel import crew, follower
from opcd_bench.store.jsonl import read_lines
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SuiteDir

METHOD, TRAIN = registry.method, RunDir.train


def run(suite) -> Path:
    suite_runner.run(suite, console=QuietReporter())
    (path,) = SuiteDir(Path(suite.output_dir) / suite.name).runs()
    return path


def fails_at(row: int) -> None:
    """Let the cell fail at its n-th training row, half-way between two checkpoints."""
    count = [0]

    def train(self: RunDir, values) -> None:
        count[0] += 1
        if count[0] == row:
            raise RuntimeError("the test's own failure")
        TRAIN(self, values)

    RunDir.train = train


def truth(path: Path) -> dict[str, str]:
    """Every file that must not depend on interruptions."""
    rows = [path / "train.jsonl.gz", path / "evals.jsonl.gz"]
    files = [*rows, *sorted((path / "samples").iterdir())]
    return {file.name: b"\n".join(read_lines(file)).decode() for file in files}


def lead(cases: dict, model: Path, folder: Path) -> dict:
    """Each case whole, and each failed and gone on with."""
    found = {}
    for name, values in cases.items():
        words = {key: value for key, value in values.items() if key != "teacher"}
        shared = {"processes": 2, "save_steps": 2, "keep_checkpoints": "all", "choose": "last"}
        both = []
        for which in ("whole", "failed"):
            suite = toy_suite(model, folder / name / which, **{**shared, **words})
            if which == "failed":
                fails_at(4)
                RunReader(run(suite)).failure()["reason"].index("own failure")
                RunDir.train = TRAIN
            both.append(run(suite))
        found[name] = {"paths": [str(path) for path in both], "truths": [*map(truth, both)]}
        found[name]["sealed"] = [RunReader(path).sealed for path in both]
    return found


def taught_by(teacher: dict | None) -> None:
    """Let the registry's methods have another teacher."""
    registry.method = METHOD
    if teacher is not None:
        registry.method = lambda name, *_: dataclasses.replace(
            METHOD(name), teacher=Teacher(**teacher)
        )


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    registry.task = lambda *_, **__: Toy()
    here = peers.join("cpu")
    found = {}
    for name, case in asked["cases"].items():
        taught_by(case.get("teacher"))
        if here.first:
            found |= lead({name: case}, Path(asked["model"]), Path(asked["folder"]))
            crew.dismiss()
        else:
            follower.follow()
    if here.first:
        Path(sys.argv[2]).write_text(json.dumps(found))
    peers.part()
