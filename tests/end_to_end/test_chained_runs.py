"""Rounds through the command line: the built-in model learns from its own attempts, twice."""

import contextlib
import io
import json
import os
import subprocess
import sys

import pytest
from command_line import opcd

import opcd_bench
from opcd_bench.envs import context_file
from opcd_bench.report.tables import rounds
from opcd_bench.store.run_reader import RunReader

SUITE = """
summary = "two rounds"
methods = ["opcd"]
tasks = ["rule_math"]
learning_rate = 1e-3
max_steps = 1
batch_size = 4
eval_steps = 1
choose = "last"
dev_items = 2
test_items = 3
max_completion_length = 64
retention = ["told_other"]
retention_items = 2
eval_retention = false
threads = 1
device = "cpu"
rounds = 2

[experience]
items = 4
max_reflection_length = 64
"""


def run_in(folder, *words):
    """What a run in a process of its own, started in ``folder``, prints as JSON."""
    command = "from opcd_bench.cli.main import entry; entry()"
    done = subprocess.run(
        [sys.executable, "-c", command, "run", *words, "--json"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The suite's folder after a run, and what the run printed."""
    folder = tmp_path_factory.mktemp("rounds")
    (folder / "twice.toml").write_text(SUITE)
    words = ["--suite", str(folder / "twice.toml"), "--output-dir", str(folder / "results")]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert opcd("run", *words, "--json") == 0
    return folder / "results" / "twice", json.loads(printed.getvalue())


def test_the_end_of_a_run_says_what_each_round_gained(ran):
    suite, told = ran
    assert (told["done"], told["failed"], told["total"]) == (2, 0, 2)
    assert "rule_math: rounds" in told["table"] and "told_other since start" in told["table"]
    (chain,) = suite.glob("rounds/*/chain.json")
    for number in (1, 2):
        made = context_file.read(chain.parent / f"context_{number}.json")
        assert made.items and made.provenance["variant"] == "memoryless"


def test_show_prints_the_chain_and_each_round_is_a_suite_of_its_own(ran, capsys):
    suite, _ = ran
    assert opcd("show", str(suite), "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rounds"]
    assert [(row["method"], row["round"]) for row in rows] == [("opcd", 1), ("opcd", 2)]
    for row in rows:
        change = row["plain after"]["value"] - row["plain before"]["value"]
        assert row["gain"]["value"] == pytest.approx(change)
        assert row["told_other change"]["n"] == 2 and row["missing"] == ""
    assert rows[0]["plain after"]["value"] == rows[1]["plain before"]["value"]
    second = next(suite.glob("rounds/*--opcd--*/round_2"))
    for command in ("show", "verify"):
        assert opcd(command, str(second)) == 0
    assert opcd("verify", str(suite)) == 0
    shown = capsys.readouterr().out
    assert "one seed" in shown and "every checksum holds" in shown


def test_the_page_of_the_suite_has_the_rounds(ran):
    suite, told = ran
    folder = suite.parents[1]
    page = (folder / told["report"]).read_text()
    assert "rule_math: rounds" in page and "No cell of this suite" not in page
    assert 'href="#headline"' not in page and 'href="#rounds"' in page
    assert (folder / "reports" / "twice" / "data" / "rounds.csv").is_file()


def test_a_damaged_file_of_a_round_is_found(ran, capsys):
    suite, _ = ran
    run = next(suite.glob("rounds/*--opcd--*/round_1/rule_math--*"))
    file = run / "train.jsonl.gz"
    before = file.read_bytes()
    try:
        file.write_bytes(before + b"\n")
        assert opcd("verify", str(suite)) == 1
    finally:
        file.write_bytes(before)
    assert "train.jsonl" in capsys.readouterr().out


def test_a_script_reads_the_rounds_with_a_number_a_column_in_the_words_of_users(ran):
    suite, _ = ran
    results, stored = opcd_bench.load_results(suite), rounds.read(suite)
    assert len(results.rounds) == len(stored) == 2
    for row, told in zip(results.rounds.to_dict("records"), stored.to_dict("records"), strict=True):
        assert row["runs"] == told["runs"].names and row["chosen_steps"] == tuple(told["steps"])
        for ours, theirs in (
            ("before", "plain before"), ("with_context", "told"), ("after", "plain after"),
            ("since_start", "since start"), ("told_other_change", "told_other change"),
        ):  # fmt: skip
            interval = told[theirs]
            assert [row[f"{ours}{end}"] for end in ("", "_low", "_high")] == pytest.approx(
                [interval.value, interval.low, interval.high], rel=0, abs=0, nan_ok=True
            )
    assert results.samples.empty and "2 rounds" in repr(results)
    assert "since start" in results._repr_html_()


def test_a_dry_run_says_which_rounds_are_done_and_a_bad_word_what_to_type(ran, capsys, monkeypatch):
    suite, _ = ran
    monkeypatch.chdir(suite.parents[1])
    words = ["run", "--suite", "twice.toml", "--dry-run"]
    assert opcd(*words, "--rounds", "3") == 0
    assert "2 of 3 rounds done" in capsys.readouterr().out
    assert opcd(*words, "--set", "keep_checkpoints=none") == 2
    assert "--set keep_checkpoints=chosen" in capsys.readouterr().err
    assert all(RunReader(path.parent).sealed for path in suite.glob("rounds/*/round_*/*/DONE"))


def test_chains_run_side_by_side_in_processes_of_their_own(tiny_model_folder, tmp_path):
    """A random model writes no lessons, so its raw attempts are told."""
    quick = ["max_completion_length=8", "eval_steps=1", "dev_items=2", "test_items=2", "threads=1",
             "keep_checkpoints=none",
             "experience={items=2, variant='raw-traces', select='first-1'}"]  # fmt: skip
    told = run_in(
        tmp_path, "--methods", "opcd_full,sft_context", "--tasks", "rule_math", "--model",
        str(tiny_model_folder), "--retention", "none", "--max-steps", "1", "--batch-size", "2",
        "--device", "cpu", "--jobs", "2", "--no-report", "--name", "beside",
        *(word for setting in quick for word in ("--set", setting)),
    )  # fmt: skip
    assert (told["done"], told["failed"], told["total"]) == (2, 0, 2)
    suite = tmp_path / "results" / "beside"
    assert len(list(suite.glob("experience/*/traces.json"))) == 1, (
        "one waits, and reads the other's"
    )
    weights = {
        json.loads(p.read_text())["weights"] for p in suite.glob("rounds/*/round_1/suite.json")
    }
    assert len(weights) == 1 and weights == {
        json.loads((suite / "suite.json").read_text())["weights"]
    }


def test_the_suite_on_the_model_s_own_lessons_runs_small(tmp_path):
    done = run_in(tmp_path, "--suite", "micro_experience", "--size", "smoke")
    assert (done["done"], done["failed"], done["total"]) == (1, 0, 1)
    contexts = (tmp_path / "results" / "micro_experience-smoke").glob(
        "experience/*/memoryless/s*.json"
    )
    assert len(list(contexts)) == 2, "one a sampling seed, one of which was chosen"
