"""Where the cells of a suite stand, read from its folder alone."""

import json
from dataclasses import asdict

from opcd_bench.store.cell_states import cell_states
from opcd_bench.store.files import LOCK
from opcd_bench.store.lease import Lease
from opcd_bench.store.suite_dir import SuiteDir
from opcd_bench.store.verification import contents


def cell(folder, name, steps=0, **files):
    """A begun cell with ``steps`` rows."""
    run = folder / name
    run.mkdir(parents=True)
    config = {"task": {"name": "t"}, "method": {"name": "m"}, "learning_rate": 1e-4, "seed": 0,
              "suite": {"max_steps": 5}}  # fmt: skip
    (run / "config.json").write_text(json.dumps(config))
    (run / "train.jsonl").write_text("{}\n" * steps)
    for name, text in files.items():
        (run / name.replace("_", ".")).write_text(text)
    return run


def suite(folder):
    made = SuiteDir(folder)
    made.merge({"name": "s"})
    return made


def test_each_cell_is_in_the_state_that_its_folder_shows(tmp_path):
    made = suite(tmp_path)
    done = cell(tmp_path, "a", 5)
    files = {name: asdict(found) for name, found in contents(done).items()}
    (done / "DONE").write_text(json.dumps({"summary": {}, "files": files, "checkpoints": {}}))
    cell(tmp_path, "b", 2)
    running = cell(tmp_path, "c", 3)
    with Lease(running / LOCK):
        found = {one.name: one for one in cell_states(made)}
    assert {name: one.state for name, one in found.items()} == {
        "a": "done", "b": "interrupted", "c": "running"}  # fmt: skip
    assert (found["c"].steps, found["c"].of_steps) == (3, 5)
    assert found["c"].holder is not None and found["c"].holder.pid > 0
    assert {one.state for one in cell_states(made) if one.name == "c"} == {
        "interrupted"}  # fmt: skip


def test_looking_writes_nothing(tmp_path):
    made = suite(tmp_path)
    cell(tmp_path, "a", 1)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    cell_states(made)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
