"""`report`, `compare`, `import-lm-eval` and the end of `run` from the command line."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest
import report_suite
from stock_lm_eval import written

from opcd_bench.cli import report
from opcd_bench.report.analysis.load import load
from opcd_bench.report.figures import catalogue
from opcd_bench.report.page import make as page
from opcd_bench.report.page import watching
from opcd_bench.report.tables import stored
from opcd_bench.store.files import LOCK
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SuiteDir

REFERENCE = Path(__file__).parents[3] / "results" / "reference" / "micro"


@pytest.fixture
def opcd(opcd, monkeypatch):
    """The same without drawing."""
    monkeypatch.setattr(catalogue, "draw", lambda *of: [])
    return opcd


@pytest.fixture
def suite(tmp_path):
    """Two runs of one seed each, of three that the suite asks for."""
    made = report_suite.describe(tmp_path / "results" / "made", learning_rate=[1e-3], seeds=1)
    for method in report_suite.METHODS:
        report_suite.finish(made, method, 1e-3, 0)
    return made


def held(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- report -----------------------------------------------------------------------------------


def test_a_report_is_written_beside_the_results_and_its_path_is_printed(opcd, suite):
    told = opcd("report", "made")
    assert told.code == 0, told.err
    assert told.out.startswith("Report: reports/made/index.html (")
    page = Path("reports/made/index.html").read_text()
    assert "opcd-bench report results/made" in page
    again = opcd("report", "results/made")
    assert "(0 files written" in again.out


def test_the_results_are_only_read(opcd, suite):
    before = held(suite.path)
    opcd("report", "made")
    assert held(suite.path) == before


def test_the_page_names_the_folder_that_it_was_written_to(opcd, suite):
    told = json.loads(opcd("report", "results/made", "--out", "a b/page", "--json").out)
    assert told["page"] == "a b/page/index.html"
    assert told["changed"] > 5 and told["removed"] == 0
    page = Path("a b/page/index.html").read_text()
    assert "opcd-bench report results/made --out &#39;a b/page&#39;" in page


def test_new_results_change_the_report_and_old_files_go(opcd, suite):
    opcd("report", "made")
    stale = Path("reports/made/samples/toy-ifeval_toy-0.js")
    assert stale.exists()
    for path in suite.runs():
        reader = RunReader(path)
        summary, settings, where = reader.summary, reader.config, reader.environment
        (path / "DONE").unlink()
        for file in path.glob("samples/retention-*"):
            file.unlink()
        with RunDir.open(path, settings, where) as run:
            run.seal(summary)
    told = opcd("report", "made")
    assert told.code == 0 and not stale.exists()


def test_a_foreign_folder_and_a_run_in_a_suites_place_are_refused(opcd, suite):
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("do not lose me")
    told = opcd("report", "made", "--out", "mine")
    assert told.code == 2 and "thesis.tex" in told.err and "--out" in told.err
    told = opcd("report", str(suite.runs()[0]))
    assert told.code == 2 and "a run, not a suite" in told.err
    assert opcd("report", "maid").code == 2


def test_the_page_opens_in_a_browser_only_when_asked(opcd, suite, monkeypatch):
    opened = []
    monkeypatch.setattr(report.webbrowser, "open", opened.append)
    opcd("report", "made")
    assert opened == []
    opcd("report", "made", "--open")
    assert opened == [(Path("reports/made/index.html").resolve()).as_uri()]


# --- watching ---------------------------------------------------------------------------------


def test_a_watch_renders_what_comes_and_ends_when_every_cell_is_done(opcd, suite):
    suite.merge({"methods": ["opcd", "forward_kl"], "seeds": 2})
    seen = []

    def grid():
        """Finishes one seed, waits for its page, then the other."""
        page = Path("reports/made/index.html")
        wait_for(page.exists)
        for method in report_suite.METHODS:
            before = page.read_bytes()
            path = report_suite.finish(suite, method, 1e-3, 1)
            wait_for(lambda before=before: page.read_bytes() != before)
            seen.append(path.name)

    thread = threading.Thread(target=grid)
    thread.start()
    told = opcd("report", "made", "--watch", "--every", "0.1")
    thread.join()
    assert told.code == 0
    assert len(seen) == 2
    assert "Every cell of the suite is done" in told.err
    assert seen[1] in Path("reports/made/index.html").read_text()
    assert told.out.count("Report: ") >= 3


def wait_for(condition, seconds=60):
    for _ in range(seconds * 20):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def test_a_watch_of_a_finished_suite_ends_at_once(opcd, suite):
    told = opcd("report", "made", "--watch")
    assert told.code == 0 and "nothing is left to watch" in told.err


def test_ctrl_c_ends_a_watch_without_an_error(tmp_path):
    report_suite.describe(tmp_path / "results" / "made")
    program = "from opcd_bench.cli.main import entry; entry()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "report", "made", "--watch"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout.readline().startswith("Report: reports/made/index.html")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err and "the page stays" in err


def test_a_watch_outlives_results_that_cannot_be_read_for_a_while(opcd, suite):
    suite.merge({"seeds": 2})
    damaged = suite.runs()[0] / "evals.jsonl.gz"
    whole = damaged.read_bytes()
    said = []

    def grid():
        page = Path("reports/made/index.html")
        wait_for(page.exists)
        damaged.write_bytes(b"not a row\n" + whole)
        time.sleep(1)
        said.append(page.exists())
        damaged.write_bytes(whole)
        for method in report_suite.METHODS:
            report_suite.finish(suite, method, 1e-3, 1)

    thread = threading.Thread(target=grid)
    thread.start()
    told = opcd("report", "made", "--watch", "--every", "0.1")
    thread.join()
    assert told.code == 0 and said == [True]
    assert "evals.jsonl.gz: changed" in told.err and "Traceback" not in told.err


def test_what_a_run_writes_changes_the_signature_and_locks_and_checkpoints_do_not(suite):
    before = watching.signature(suite.path)
    run = suite.runs()[0]
    (run / LOCK).write_text("1")
    (run / ".evals.jsonl.gz.0a1b2c3d.opcd-bench.tmp").write_text("half")
    (run / "checkpoints" / "step_000010").mkdir(parents=True)
    (run / "checkpoints" / "step_000010" / "state.pt").write_text("weights")
    assert watching.signature(suite.path) == before
    with (run / "evals.jsonl.gz").open("a") as file:
        file.write("{}\n")
    assert watching.signature(suite.path) != before


def test_a_suite_is_finished_when_every_cell_that_it_asks_for_is_done(suite):
    assert watching.finished(load(suite.path))
    suite.merge({"seeds": 2})
    assert not watching.finished(load(suite.path))
    suite.merge({"seeds": 1, "methods": ["opcd", "forward_kl", "jsd"]})
    assert not watching.finished(load(suite.path))


def test_a_suite_that_chooses_its_rate_on_dev_is_finished_with_that_rates_other_seeds(tmp_path):
    suite = report_suite.describe(
        tmp_path / "results" / "dev", methods=["opcd"], headline_learning_rate="dev", seeds=2
    )
    for rate in report_suite.RATES:
        report_suite.finish(suite, "opcd", rate, 0)
    assert not watching.finished(load(suite.path))
    dev = {
        rate: next(
            row["value"]
            for path in suite.runs()
            if (reader := RunReader(path)).config["learning_rate"] == rate
            for row in reader.read("evals")
            if row["split"] == "dev" and row["step"] == 10
        )
        for rate in report_suite.RATES
    }
    best = max(dev, key=lambda rate: (dev[rate], -rate))
    report_suite.finish(suite, "opcd", best, 1)
    assert watching.finished(load(suite.path))


# --- compare ----------------------------------------------------------------------------------


def runs(suite, *methods):
    return [
        next(path for path in suite.runs() if RunReader(path).config["method"]["name"] == name)
        for name in methods
    ]


def test_two_runs_are_compared_paired_by_example(opcd, suite):
    first, second = runs(suite, "opcd", "forward_kl")
    told = json.loads(opcd("compare", first, second, "--json").out)
    test, kept = told["scores"]
    assert (test["measured"], test["split"], test["n"]) == ("toy", "test", report_suite.TEST)
    scores = [
        {row["example_id"]: row["score"] for row in RunReader(path).read("samples/test")}
        for path in (first, second)
    ]
    differences = [scores[0][key] - scores[1][key] for key in scores[0]]
    expected = sum(differences) / len(differences)
    assert test["difference"]["value"] == pytest.approx(expected)
    assert test["first"]["value"] - test["second"]["value"] == pytest.approx(expected)
    assert 0 < test["p"] <= 1
    assert (kept["measured"], kept["n"]) == ("ifeval_toy", report_suite.KEPT)
    assert any(line.startswith("method.loss.direction") for line in told["settings"])
    assert not [line for line in told["settings"] if line.startswith("seed")]


def test_the_comparison_is_readable_in_a_terminal(opcd, suite):
    first, second = runs(suite, "opcd", "forward_kl")
    told = opcd("compare", first.name, second.name)
    assert told.code == 0, told.err
    assert "first - second" in told.out and "ifeval_toy (retention)" in told.out
    assert 'method.name: "opcd" -> "forward_kl"' in told.out
    assert "permutation" in told.out and "clustered by example" in told.out


def test_alike_runs_differ_by_nothing(opcd, suite, tmp_path):
    other = report_suite.describe(tmp_path / "results" / "other")
    again = report_suite.finish(other, "opcd", 1e-3, 0)
    first = runs(suite, "opcd")[0]
    told = json.loads(opcd("compare", first, again, "--json").out)
    assert [row["difference"]["value"] for row in told["scores"]] == [0.0, 0.0]
    assert [row["p"] for row in told["scores"]] == [1.0, 1.0]
    assert told["settings"] == []


def test_runs_under_different_protocols_are_refused_and_named(opcd, suite, tmp_path):
    other = report_suite.describe(tmp_path / "results" / "other")
    again = report_suite.finish(other, "forward_kl", 1e-3, 0, protocol="hotter")
    told = opcd("compare", runs(suite, "opcd")[0], again)
    assert told.code == 2
    assert "toy on test: test and hotter" in told.err


def test_a_run_that_is_not_finished_a_suite_and_one_run_twice_are_refused(opcd, suite):
    first = runs(suite, "opcd")[0]
    with report_suite.begin(suite, report_suite.config("opcd", 1e-3, 7)) as run:
        report_suite.train(run, "reverse_kl_generalised", steps=2)
    told = opcd("compare", first, run.path)
    assert told.code == 2 and "not finished (unfinished)" in told.err
    told = opcd("compare", first, "made")
    assert told.code == 2 and "a suite, not a run" in told.err
    told = opcd("compare", first, first.name)
    assert told.code == 2 and "was given twice" in told.err


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="results/reference is not here")
def test_the_reference_runs_compare_as_their_stored_scores_say(opcd):
    """Two rates of one method: the harsher one forgets to obey another context."""
    names = ("lr3e-04--s0", "lr1e-03--s0")
    paths = [next(REFERENCE.glob(f"rule_math--opcd--{name}--*")) for name in names]
    told = json.loads(opcd("compare", *paths, "--json").out)
    scores = {row["measured"]: row for row in told["scores"]}
    kept = scores["told_other"]
    assert kept["first"]["value"] == pytest.approx(0.98)
    assert kept["second"]["value"] == pytest.approx(0.63)
    assert kept["difference"]["low"] > 0.25 and kept["p"] < 0.001
    assert told["settings"] == ["learning_rate: 0.0003 -> 0.001"]


def scored_run(folder, measures):
    """A sealed run with these samples: sample name -> (measured, scores)."""
    suite = SuiteDir(folder)
    suite.merge({"name": folder.name, "methods": [], "tasks": []})
    with RunDir.open(suite.run("toy--made"), {"made": folder.name}, {}) as run:
        for name, (measured, scores) in measures.items():
            rows = [
                {"task": measured, "split": name.partition("-")[0], "example_id": f"e{i}",
                 "sample": 0, "score": score, "outcome": "measured", "beside": more}
                for i, (score, more) in enumerate(scores)
            ]  # fmt: skip
            run.samples(name, rows)
        run.seal({"chosen_step": 1, "anchors": []})
        return run.path


def test_all_that_two_runs_share_is_compared_and_what_one_lacks_is_named(opcd, tmp_path):
    def of(*scores, more=None):
        return [(score, more or {}) for score in scores]

    first = scored_run(
        tmp_path / "one",
        {
            "test": ("toy", of(1.0, 0.0)),
            "retention-ifeval": ("ifeval", of(1.0, 0.5, more={"whole prompts": 1.0})),
            "nats-drift": ("drift", of(3.5, 1.5)),
            "nats-loss_gsm8k": ("loss_gsm8k", of(2.0)),
            "probe-far": ("toy.far", of(1.0, 1.0)),
            "scores-toy-step_000000": ("toy", of(0.0)),
        },
    )
    second = scored_run(
        tmp_path / "two",
        {
            "test": ("toy", of(0.0, 0.0)),
            "retention-ifeval": ("ifeval", of(0.5, 0.5, more={"whole prompts": 0.0})),
            "nats-drift": ("drift", of(1.0, 1.0)),
            "probe-far": ("toy.far", of(0.0, 1.0)),
            "probe-near": ("toy.near", of(0.0)),
        },
    )
    told = json.loads(opcd("compare", first, second, "--json").out)
    found = {(row["measured"], row["split"]): row["difference"]["value"] for row in told["scores"]}
    assert found == {
        ("toy", "test"): 0.5,
        ("ifeval", "retention"): 0.25,
        ("ifeval, whole prompts", "retention"): 1.0,
        ("drift", "nats"): 1.5,
        ("toy.far", "probe"): 0.5,
    }
    assert next(iter(found)) == ("toy", "test")
    assert told["only"] == {
        "first": ["loss_gsm8k (nats)"], "second": ["toy.near (further test set)"],
    }  # fmt: skip
    printed = opcd("compare", first, second).out
    (drift,) = [line for line in printed.splitlines() if line.startswith("drift (nats)")]
    assert "2.500" in drift and "1.500" in drift, "in nats, no share of a hundred"
    assert "scored of the first alone: loss_gsm8k (nats)" in printed
    assert "scored of the second alone: toy.near (further test set)" in printed


# --- import-lm-eval ---------------------------------------------------------------------------


def test_a_stock_run_becomes_an_external_row_of_the_report(opcd, suite, tmp_path):
    files = written(tmp_path / "run")
    told = opcd("import-lm-eval", *files, "--suite", "made", "--name", "stock")
    assert told.code == 0, told.err
    assert "Stored: results/made/external/stock.json (org/model)" in told.out
    assert "prompt_level_strict_acc" in told.out and "0.6" in told.out
    assert opcd("report", "made").code == 0
    assert "org/model" in Path("reports/made/headline.md").read_text()
    again = json.loads(
        opcd("import-lm-eval", *files, "--suite", "made", "--name", "stock", "--json").out
    )
    assert again["replaced"] is True and len(again["rows"]) == 2


def test_results_without_samples_say_what_is_lost(opcd, suite, tmp_path):
    made, _ = written(tmp_path / "run")
    told = opcd("import-lm-eval", made, "--suite", "made", "--name", "stock")
    assert told.code == 0 and "No sample log was given" in told.out


@pytest.mark.parametrize("name", ["results_x.json", "samples_x.jsonl", "table.md"])
def test_a_wrong_file_is_one_message_and_nothing_is_stored(opcd, suite, name):
    Path(name).write_text("{}")
    told = opcd("import-lm-eval", name, "--suite", "made", "--name", "stock")
    assert told.code == 2 and name in told.err and "Traceback" not in told.err
    assert not (suite.path / "external").exists()


def test_a_stock_run_into_no_suite_is_refused(opcd, suite, tmp_path):
    files = written(tmp_path / "run")
    told = opcd("import-lm-eval", *files, "--suite", runs(suite, "opcd")[0], "--name", "stock")
    assert told.code == 2 and "no suite is stored here" in told.err
    told = opcd("import-lm-eval", *files, "--suite", "made", "--name", "a/b")
    assert told.code == 2 and "cannot name a file" in told.err


# --- the end of run ---------------------------------------------------------------------------

RUN = ["run", "--methods", "opcd", "--tasks", "rule_math"]


@pytest.fixture
def runner(monkeypatch, suite):
    """A runner that runs nothing: the suite made by hand is what it comes back with."""
    fake = types.ModuleType("opcd_bench.runner.suite_runner")
    fake.summary = types.SimpleNamespace(
        suite_dir=Path("results/made"), done=2, failed=0, total=2, unscored=0
    )
    fake.run = lambda suite, console: fake.summary
    monkeypatch.setitem(sys.modules, "opcd_bench.runner.suite_runner", fake)
    monkeypatch.setattr("opcd_bench.runner.suite_runner", fake, raising=False)
    monkeypatch.setattr(stored, "text_of", lambda *_, **__: "the table")
    return fake


def test_a_run_ends_with_its_table_and_the_path_of_its_page(opcd, runner):
    told = opcd(*RUN)
    assert told.code == 0, told.err
    assert told.out.index("the table") < told.out.index("Report: reports/made/index.html")
    assert Path("reports/made/index.html").is_file()
    assert json.loads(opcd(*RUN, "--json").out)["report"] == "reports/made/index.html"


def test_a_run_can_leave_the_report_out(opcd, runner):
    told = opcd(*RUN, "--no-report")
    assert told.code == 0 and "Report:" not in told.out
    assert not Path("reports").exists()
    assert json.loads(opcd(*RUN, "--no-report", "--json").out)["report"] is None


def test_a_report_that_cannot_be_written_does_not_make_the_run_fail(opcd, runner):
    Path("reports").mkdir()
    Path("reports/made").write_text("a file of somebody's")
    told = opcd(*RUN)
    assert told.code == 0
    assert "2 of 2 cells done" in told.out and "Report:" not in told.out
    assert "the results are stored" in told.err and "Traceback" not in told.err


def test_a_failed_cell_still_gives_a_report_and_exit_code_1(opcd, runner):
    runner.summary.done, runner.summary.failed = 1, 1
    told = opcd(*RUN)
    assert told.code == 1 and "Report: reports/made/index.html" in told.out


def test_a_bug_in_the_report_keeps_its_traceback_and_comes_after_the_results(
    opcd, runner, monkeypatch
):
    def broken(*_):
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(page, "make", broken)
    with pytest.raises(ZeroDivisionError):
        opcd(*RUN)


def test_a_report_loads_no_torch(suite, tmp_path):
    program = (
        "import sys\n"
        "from opcd_bench.cli.main import entry\n"
        "from opcd_bench.report import figures\n"
        "figures.draw = lambda comparison: []\n"
        "entry(['report', 'made'])\n"
        "assert 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
