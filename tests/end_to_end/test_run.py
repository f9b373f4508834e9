"""`opcd-bench run` from the command line on a tiny model: what a user does right, and wrong."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import opcd_bench.baselines
import pytest
from command_line import over
from fixtures import tiny_tokenizer, write_tiny_model

from opcd_bench.api import load_results
from opcd_bench.cli import main
from opcd_bench.runner.registry import plugin_files
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SuiteDir
from opcd_bench.store.verification import verify

SMALL = [
    "--max-steps", "2", "--batch-size", "2", "--retention", "none", "--name", "small",
    "--set", "eval_steps=1", "--set", "dev_items=2", "--set", "test_items=3",
    "--set", "max_completion_length=6", "--set", "threads=1",
]  # fmt: skip

CONTRIBUTED = '''"""A contributed method: half of the replies are the told teacher's."""

from opcd_bench import Method, mixture, named

METHOD = Method(
    name="mine",
    summary="Reverse KL with a tail bucket on a mixture of writers.",
    source="a test",
    writer=mixture(0.5),
    loss=named("rkl_tail", support="student_top_k", k=16),
)
'''


@pytest.fixture
def opcd(capfd, tmp_path, monkeypatch, tiny_model_folder):
    """Run a command line in an empty folder, on the tiny model unless it says otherwise."""
    monkeypatch.chdir(tmp_path)

    def call(*words, model=tiny_model_folder):
        code = 0
        if words[0] == "run":
            words = (*words, "--model", str(model), *SMALL)
            if "--report" not in words:  # it takes longer than these runs
                words = (*words, "--no-report")
            if not {"jobs=2", "--jobs"} & set(
                words
            ):  # workers do not see what a test puts in this process
                words = (*words, "--set", "jobs=1")
        try:
            main.entry(list(words))
        except SystemExit as left:
            code = left.code or 0
        captured = capfd.readouterr()
        return types.SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return call


LAKE = ["--tasks", "frozen_lake"]


def runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("results/small/*/config.json"))


def test_a_contributed_method_is_listed_checked_run_and_compared(opcd, tmp_path, monkeypatch):
    """One file of at most twenty lines; no other file is touched."""
    assert len(CONTRIBUTED.splitlines()) <= 20
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "mine.py").write_text(CONTRIBUTED)
    paths = [*opcd_bench.baselines.__path__, str(folder)]
    monkeypatch.setattr(opcd_bench.baselines, "__path__", paths)
    monkeypatch.delitem(sys.modules, "opcd_bench.baselines.mine", raising=False)
    assert "mine" in plugin_files("opcd_bench.baselines")
    listed = json.loads(opcd("methods", "--json").out)
    assert "mine" in json.dumps(listed)
    assert opcd("check", str(folder / "mine.py")).code == 0
    told = opcd("run", "--methods", "opcd_full,mine", *LAKE)
    assert told.code == 0, told.err
    assert "mine" in told.out and "2 of 2 cells done" in told.out
    assert all(not p.damage for p in verify(tmp_path / "results" / "small"))


def test_a_run_ends_with_a_report_of_what_it_stored(opcd, tmp_path):
    told = opcd("run", "--methods", "opcd_full", *LAKE, "--report")
    assert told.code == 0, told.err
    assert "Report: reports/small/index.html" in told.out
    page = (tmp_path / "reports" / "small" / "index.html").read_text()
    (path,) = runs(tmp_path)
    assert path.name in page and "opcd-bench report results/small" in page
    assert (tmp_path / "reports/small/samples/frozen_lake-frozen_lake-0.js").is_file()
    assert all(not p.damage for p in verify(tmp_path / "results" / "small"))


def test_the_printed_table_and_the_stored_scores_agree(opcd, tmp_path):
    told = opcd("run", "--methods", "opcd_full,sft_context", *LAKE, "--seeds", "2")
    assert told.code == 0, told.err
    assert "4 of 4 cells done" in told.out
    for path in runs(tmp_path):
        reader = RunReader(path)
        final = {r["metric"]: r for r in reader.read("evals") if r["final"]}
        scores = [row["score"] or 0.0 for row in reader.read("samples/test")]
        assert final["accuracy"]["value"] == pytest.approx(sum(scores) / len(scores))
        assert final["accuracy"]["n"] == 3
    again = opcd("run", "--methods", "opcd_full,sft_context", *LAKE, "--seeds", "2")
    assert again.code == 0 and "4 of 4 cells done" in again.out


def test_two_jobs_write_what_one_writes(opcd, tmp_path):
    words = ["run", "--methods", "opcd_full,sft_context", *LAKE]
    assert opcd(*words).code == 0
    one = {p.name: (p / "train.jsonl.gz").read_bytes() for p in runs(tmp_path)}
    (tmp_path / "results").rename(tmp_path / "first")
    told = opcd(*words, "--set", "jobs=2")
    assert told.code == 0, told.err
    beside = "time of what they share, beside them"
    (shared,) = [line for line in told.err.splitlines() if beside in line]
    assert "base and ceilings" in shared and "responses in context" in shared
    assert {p.name: (p / "train.jsonl.gz").read_bytes() for p in runs(tmp_path)} == one


def test_a_checkpoint_from_elsewhere_plays_the_suites_game(opcd, tmp_path, tiny_model_folder):
    """On the boards of the others, turn by turn: the base by another name scores what it does."""
    words = ["run", "--methods", "sft_context", *LAKE, "--entrant", f"mine={tiny_model_folder}"]
    assert opcd(*words).code == 0
    (entrant,) = load_results(tmp_path / "results" / "small").entrants.to_dict("records")
    assert (entrant["name"], entrant["task"], entrant["gain"]) == ("mine", "frozen_lake", 0.0)
    (mine,), (base,) = (
        [
            [turn for row in one.get(name) for turn in row.get("turns", ())]
            for one in SuiteDir(tmp_path / "results" / "small").all_shared()
            if one.path.name.startswith(folder)
        ]
        for folder, name in (("entrant-", "test-s0"), ("frozen_lake--", "base-test-s0"))
    )
    assert mine == base and len(mine) >= 3


def refused(answer, *says: str) -> None:
    assert answer.code == 2
    assert "Traceback" not in answer.err
    for text in says:
        assert text in answer.err


def test_a_k_above_the_vocabulary_is_refused_and_nothing_is_written(opcd, tmp_path, monkeypatch):
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "wide.py").write_text(
        CONTRIBUTED.replace('"mine"', '"wide"').replace("k=16", "k=100_000")
    )
    paths = [*opcd_bench.baselines.__path__, str(folder)]
    monkeypatch.setattr(opcd_bench.baselines, "__path__", paths)
    refused(opcd("run", "--methods", "wide", *LAKE), "k = 100000 is above the vocabulary", "259")
    assert not (tmp_path / "results").exists()


def test_a_model_folder_without_a_tokenizer_is_refused(opcd, tmp_path):
    folder = write_tiny_model(tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    refused(opcd("run", "--methods", "opcd_full", *LAKE, model=folder), "tokenizer")
    assert not (tmp_path / "results").exists()


def test_a_model_without_a_chat_template_is_refused(opcd, tmp_path):
    folder = write_tiny_model(tmp_path / "bare")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)
    refused(opcd("run", "--methods", "opcd_full", *LAKE, model=folder), "chat template")
    assert not (tmp_path / "results").exists()


def test_a_larger_teacher_of_another_vocabulary_is_refused(opcd, tmp_path, monkeypatch):
    folder = write_tiny_model(tmp_path / "other", vocab_size=300)
    tiny_tokenizer(extra=("zebra",)).save_pretrained(folder)
    more = tmp_path / "more"
    more.mkdir()
    (more / "cross.py").write_text(
        CONTRIBUTED.replace('"mine"', '"cross"')
        .replace("import Method, mixture", "import Method, Teacher, mixture")
        .replace("k=16),", 'k=16),\n    teacher=Teacher(weights="larger"),')
    )
    paths = [*opcd_bench.baselines.__path__, str(more)]
    monkeypatch.setattr(opcd_bench.baselines, "__path__", paths)
    words = ["run", "--methods", "cross", *LAKE]
    refused(opcd(*words), "--teacher-model")
    refused(opcd(*words, "--teacher-model", str(folder)), "vocabular")
    assert not (tmp_path / "results").exists()


def test_a_folder_that_is_not_ours_is_refused_and_untouched(opcd, tmp_path):
    folder = tmp_path / "results" / "small"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("do not lose me")
    refused(opcd("run", "--methods", "opcd_full", *LAKE), "thesis.tex", "--output-dir")
    assert [p.name for p in folder.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_output_folder_is_refused(opcd, tmp_path):
    (tmp_path / "results").write_text("a file")
    refused(opcd("run", "--methods", "opcd_full", *LAKE), "results")
    assert (tmp_path / "results").read_text() == "a file"


def test_a_task_without_a_context_is_no_task_to_train_on(opcd, tmp_path):
    refused(opcd("run", "--methods", "opcd_full", "--tasks", "told_other"), "empty context")
    assert not (tmp_path / "results").exists()


def test_a_damaged_checkpoint_is_named_and_the_cell_fails_without_loss(opcd, tmp_path):
    words = ["run", "--methods", "opcd_full", *LAKE, "--set", "keep_checkpoints='all'"]
    assert opcd(*words).code == 0
    (path,) = runs(tmp_path)
    (path / "DONE").unlink()
    state = sorted(path.glob("checkpoints/*/optimiser.pt"))[-1]
    state.write_bytes(state.read_bytes()[:-10] + b"0123456789")
    answer = opcd(*words)
    assert answer.code == 1
    assert "optimiser.pt" in answer.err and "failed" in answer.out
    state.parent.rename(tmp_path / "damaged")
    assert opcd(*words).code == 0


def test_a_kept_checkpoint_is_a_model_that_transformers_opens_and_a_run_begins_from(opcd, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    words = ["run", "--methods", "opcd_full", *LAKE, "--set", "keep_checkpoints='all'"]
    assert opcd(*words).code == 0
    (path,) = runs(tmp_path)
    folder = path / "checkpoints" / "step_000002" / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.num_parameters() > 0
    assert AutoTokenizer.from_pretrained(folder).chat_template
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers")
    assert "step 2" in card and "| frozen_lake | dev | 0.0 % |" in card and path.name in card
    again = opcd(*words, "--output-dir", "further", model=folder)
    assert again.code == 0, again.err
    assert SuiteDir(tmp_path / "further" / "small").read()["model"] == str(folder)


def test_a_full_disk_is_one_message_and_the_run_goes_on_later(opcd, tmp_path, monkeypatch):
    from opcd_bench.store import jsonl

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(jsonl, "write_all", full)
        answer = opcd("run", "--methods", "opcd_full", *LAKE)
    assert answer.code in (1, 2)
    assert "full" in (answer.err + answer.out).lower() and "Traceback" not in answer.err
    assert opcd("run", "--methods", "opcd_full", *LAKE).code == 0


def begun(model, folder, *, jobs):
    """A run of its own process group, far longer than the test, that has trained two steps."""
    entry = "from opcd_bench.cli.main import entry; entry()"
    words = [sys.executable, "-c", entry, "run", "--methods", "opcd_full,sft_context", *LAKE,
             "--model", str(model),
             *over(SMALL, "--max-steps", "400", "--jobs", str(jobs))]  # fmt: skip
    process = subprocess.Popen(
        words,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CI": "true"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell may have set it
        process_group=0,
    )
    for _ in range(600):
        rows = sum(len(p.read_bytes().splitlines()) for p in folder.rglob("train.jsonl"))
        if rows >= 2:
            return process
        time.sleep(0.2)
    process.kill()
    raise AssertionError(f"two steps were not trained in two minutes: {process.communicate()[1]}")


def test_ctrl_c_leaves_a_resumable_run_and_says_how_to_go_on(tiny_model_folder, tmp_path):
    process = begun(tiny_model_folder, tmp_path, jobs=1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "type the same command again" in err and "Traceback" not in err


def test_workers_end_with_the_run_that_was_killed(tiny_model_folder, tmp_path):
    """They would compute on unseen, each with gigabytes, and hold the lock of its cell."""
    process = begun(tiny_model_folder, tmp_path, jobs=2)
    assert len(members(process.pid)) > 2
    process.kill()
    process.wait()
    for _ in range(100):
        if not members(process.pid):
            break
        time.sleep(0.1)
    assert members(process.pid) == []


def members(group):
    """The living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(int(stat.parent.name))
    return found


def test_a_killed_worker_is_one_message_and_the_run_goes_on_later(opcd, tmp_path, monkeypatch):
    from opcd_bench.runner.cluster import local as pool

    words = ["run", "--methods", "opcd_full,sft_context", *LAKE, "--jobs", "2"]
    original = pool.wait

    def killing(futures, **settings):
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
        return original(futures, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(pool, "wait", killing)
        answer = opcd(*words)
    refused(answer, "type the same command again")
    assert opcd(*words).code == 0
