"""`import opcd_bench`: light, complete and typed; and what it reads of stored results."""

import ast
import dataclasses
import importlib
import json
import subprocess
import sys
import types
from pathlib import Path

import pandas as pd
import pytest
import report_suite

import opcd_bench
from opcd_bench.config import suite as suite_settings
from opcd_bench.errors import ConfigError, StoreError, UnknownName
from opcd_bench.report.figures import forgetting as drawing
from opcd_bench.runner.rounds import any_suite
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SuiteDir

HEAVY = ["torch", "pandas", "numpy", "transformers", "matplotlib", "pydantic", "typer"]
FACE = Path(opcd_bench.__file__)


def python(program, cwd):
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


# --- the names ----------------------------------------------------------------------------------


def test_importing_the_face_loads_nothing_heavy(tmp_path):
    program = f"import sys, opcd_bench; print([m for m in {HEAVY} if m in sys.modules])"
    assert python(program, tmp_path).stdout.strip() == "[]"


def test_the_names_of_methods_and_tasks_load_no_torch(tmp_path):
    program = (
        "import sys, opcd_bench\n"
        "for name in sorted(set(opcd_bench.__all__) - {'TokenLoss', 'token_loss'}):\n"
        "    getattr(opcd_bench, name)\n"
        "    assert not {'torch', 'pandas', 'transformers'} & set(sys.modules), name\n"
    )
    done = python(program, tmp_path)
    assert done.returncode == 0, done.stderr


def test_every_name_of_the_face_is_there_and_is_what_its_module_calls_so():
    assert set(opcd_bench.__all__) == set(opcd_bench._HOME_OF) == set(dir(opcd_bench))
    for name, module in opcd_bench._HOME_OF.items():
        home = importlib.import_module(f"opcd_bench.{module}")
        assert getattr(opcd_bench, name) is getattr(home, name)


def test_type_checkers_see_the_names_that_are_loaded():
    tree = ast.parse(FACE.read_bytes())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module.removeprefix("opcd_bench.")
        for node in block.body
        for alias in node.names
    }
    assert seen == opcd_bench._HOME_OF


def test_no_name_of_the_face_is_a_module_of_the_package():
    """`from opcd_bench import run` must never mean a file."""
    inside = {path.stem for path in FACE.parent.iterdir() if path.suffix in ("", ".py")}
    assert not set(opcd_bench.__all__) & (inside | {"baselines", "tasks"})


def test_an_unknown_name_gets_a_near_one():
    with pytest.raises(AttributeError, match="no 'Metod'; did you mean 'Method'"):
        opcd_bench.Metod  # noqa: B018
    assert not hasattr(opcd_bench, "xyzzy")
    with pytest.raises(ImportError):
        from opcd_bench import xyzzy  # noqa: F401


def test_star_import_gives_the_face_alone():
    found = {}
    exec("from opcd_bench import *", found)
    assert set(found) - {"__builtins__"} == set(opcd_bench.__all__)


def test_the_package_runs_as_a_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "opcd_bench", "--version"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == f"opcd-bench {opcd_bench.__version__}\n"


def test_the_command_line_imports_quickly(tmp_path):
    """Half a second on an idle core; twice that here, where others work beside it."""
    program = (
        "import time; start = time.process_time()\n"
        "import opcd_bench.cli.main; print(time.process_time() - start)"
    )
    assert min(float(python(program, tmp_path).stdout) for _ in range(3)) < 1.0


# --- stored results -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A suite made by hand: two methods, two rates, a failed cell."""
    root = tmp_path_factory.mktemp("face") / "results" / "made"
    report_suite.whole(root)
    return root


@pytest.fixture
def results(stored, monkeypatch):
    monkeypatch.chdir(stored.parent.parent)
    return opcd_bench.load_results("results/made")


def test_the_headline_has_the_numbers_of_show(results, opcd, stored):
    shown = json.loads(opcd("show", stored, "--json").out)["table"]
    columns = {
        "plain": "accuracy",
        "base": "base",
        "ceiling": "ceiling",
        "gap closed": "gap_closed",
        "ifeval_toy after": "ifeval_toy_after",
        "ifeval_toy change": "ifeval_toy_change",
    }
    frame = results.headline
    assert len(frame) == len(shown) > 4
    for row, told in zip(frame.to_dict("records"), shown, strict=True):
        same = ("task", "method", "learning_rate", "seeds", "state", "headline")
        assert [row[name] for name in same] == [told[name] for name in same]
        for theirs, ours in columns.items():
            interval = told[theirs] or dict.fromkeys(("value", "low", "high"))
            for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high")):
                value, expected = row[f"{ours}{suffix}"], interval[part]
                assert pd.isna(value) if expected is None else value == expected
        assert row["n"] == (told["plain"]["n"] if told["plain"] else 0)
        assert row["runs"] == tuple(told["runs"])


def test_frames_hold_numbers_that_are_shares(results):
    frame = results.headline
    assert frame["accuracy"].dropna().between(0, 1).all()
    for name in frame.columns:
        if name.endswith(("_low", "_high")):
            assert frame[name].dtype == float and name.rpartition("_")[0] in frame.columns
    objects = {name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])}
    assert objects == {"task", "method", "state", "chosen_steps", "runs"}


def test_the_samples_average_to_the_headline(results):
    test = results.samples[results.samples["split"] == "test"]
    row = results.headline[results.headline["headline"] & (results.headline["seeds"] > 0)].iloc[0]
    mine = test[(test["method"] == row["method"]) & (test["learning_rate"] == row["learning_rate"])]
    assert mine["score"].mean() == pytest.approx(row["accuracy"])
    for reference in ("base", "ceiling"):
        assert test[test["method"] == reference]["score"].mean() == pytest.approx(row[reference])
    assert set(results.samples["measured"]) == {"toy", "ifeval_toy"}


def test_curves_hold_dev_and_retention_at_every_evaluated_step(results):
    curves = results.curves
    assert list(curves.columns) == [
        "task", "method", "learning_rate", "seed", "headline", "step", "tokens", "dev_accuracy",
        "ifeval_toy",
    ]  # fmt: skip
    one = curves[(curves["method"] == "opcd") & (curves["learning_rate"] == 1e-3)]
    one = one[one["seed"] == 0]
    assert list(one["step"]) == list(report_suite.STEPS)
    assert list(one["tokens"]) == [100.0 * step for step in report_suite.STEPS]
    run = results.headline["runs"].map(lambda runs: [r for r in runs if "--opcd--lr0.001--s0" in r])
    (name,) = [r for runs in run for r in runs]
    rows = RunReader(results.path / name).read("evals")
    for measured, column in (("dev", "dev_accuracy"), ("retention", "ifeval_toy")):
        values = [r["value"] for r in rows if r["split"] == measured and not r["final"]]
        assert list(one[column]) == values and len(values) > 2


def test_failed_cells_are_listed_with_their_reasons(results):
    (failed,) = results.failed
    assert failed[1:] == ("toy", "jsd", 1e-3, 0, "the loss is <not> finite")
    assert (results.path / failed.run / "FAILED.json").is_file()


def test_the_report_is_written_and_its_page_returned(results, tmp_path):
    page = results.report(tmp_path / "page")
    assert page == tmp_path / "page" / "index.html" and "opcd" in page.read_text()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("a user's own")
    with pytest.raises(StoreError, match="no report of opcd-bench"):
        results.report(tmp_path / "mine")


def test_by_default_the_report_lies_beside_the_results(results):
    assert results.report() == Path("reports/made/index.html")


def test_the_forgetting_plot_draws_what_the_report_draws(results, monkeypatch):
    drawn = []
    data = drawing.data
    monkeypatch.setattr(drawing, "data", lambda *given: drawn.append(data(*given)) or drawn[-1])
    figure = results.forgetting_plot()
    assert {axes.get_title("left") for axes in figure.axes} >= {"ifeval_toy"}
    whole = drawn[0][drawn[0]["seed"].isna()].set_index("method")
    table = results.headline[results.headline["headline"]].set_index("method")
    for method in whole.index:
        assert whole["change"][method] == table["ifeval_toy_change"][method]
    assert "matplotlib.pyplot" not in sys.modules or figure.number is None  # nothing global
    with pytest.raises(UnknownName, match="toy"):
        results.forgetting_plot("tpy")


def test_side_by_side_shows_one_example_that_training_put_right(results):
    shown = results.side_by_side()
    assert (shown.before.outcome, shown.after.outcome) == ("wrong", "correct")
    assert shown.with_context.outcome == "correct"
    assert list(shown.frame().index) == ["before training", "after training", "with context"]
    assert shown.prompt in repr(shown) and shown.after.text in repr(shown)
    other = results.side_by_side("t01", method="forward_kl")
    assert other.example_id == "t01" and other.method == "forward_kl"
    page = other._repr_html_()
    assert report_suite.HOSTILE not in page and "<script>" not in page
    with pytest.raises(UnknownName, match="Did you mean 't"):
        results.side_by_side("t0l")
    with pytest.raises(UnknownName, match="jsd"):
        results.side_by_side(method="jsd")


def test_results_show_themselves_in_a_line_and_as_a_table(results):
    assert repr(results) == "<Results of results/made: 6 done, 1 failed>"
    page = results._repr_html_()
    assert "<table>" in page and "OPCD" in page and "#run-" not in page


def test_results_read_by_name_and_by_folder_are_the_same(results):
    by_name = opcd_bench.load_results("made")
    assert by_name == results
    pd.testing.assert_frame_equal(by_name.headline, results.headline)


def test_what_is_no_suite_is_refused_with_near_names(results):
    with pytest.raises(UnknownName, match="Did you mean 'results/made'"):
        opcd_bench.load_results("results/mad")
    with pytest.raises(UnknownName, match="Did you mean 'made'"):
        opcd_bench.load_results("maed")
    with pytest.raises(StoreError, match="neither a run"):
        opcd_bench.load_results("results")
    with pytest.raises(StoreError, match="a run, not a suite; give the folder of its suite"):
        opcd_bench.load_results(results.path / results.headline["runs"][0][0])


def test_a_suite_without_a_run_has_empty_frames_and_says_so(tmp_path):
    report_suite.describe(tmp_path / "empty")
    results = opcd_bench.load_results(tmp_path / "empty")
    assert results.headline["accuracy"].isna().all() and results.samples.empty
    assert results.curves.empty and results.failed == () and results.rounds.empty
    assert "No cell is done" in results._repr_html_()
    with pytest.raises(StoreError, match="nothing to draw"):
        results.forgetting_plot()
    with pytest.raises(StoreError, match="no run is done"):
        results.side_by_side()


def test_reading_results_loads_no_torch_and_changes_nothing(stored):
    before = {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    program = (
        "import sys, opcd_bench\n"
        "results = opcd_bench.load_results('results/made')\n"
        "results.headline, results.samples, results.curves, results.failed, results.training\n"
        "results.forgetting_plot(), results.side_by_side(), repr(results), results._repr_html_()\n"
        "assert not {'torch', 'transformers', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    done = python(program, stored.parent.parent)
    assert done.returncode == 0, done.stderr
    assert before == {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}


# --- what is asked for --------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Suites that `run` was asked for, which nobody trains."""
    monkeypatch.chdir(tmp_path)
    suites = []

    def run(suite, *, console):
        suites.append(suite)
        folder = Path(suite.output_dir) / suite.name
        SuiteDir(folder).merge(suite.model_dump(mode="json"))
        return types.SimpleNamespace(
            suite_dir=folder, failed=0, unscored=0, done=1, total=1, table=""
        )

    monkeypatch.setattr(any_suite, "run", run)
    return suites


def test_a_run_takes_the_suite_and_settings_that_the_command_line_takes(asked, opcd):
    opcd_bench.run("quick", methods=["opcd", "jsd"], learning_rate=1e-4, seeds=2, retention=[])
    opcd(
        "run", "--suite", "quick", "--methods", "opcd,jsd", "--learning-rate", "1e-4", "--seeds",
        "2", "--retention", "none", "--no-report",
    )  # fmt: skip
    assert asked[0] == asked[1] and asked[0].name.startswith("quick-")


def test_without_a_word_quick_runs_as_it_is(asked):
    results = opcd_bench.run(quiet=True)
    weights = {"model_weights": asked[0].model_weights}  # of the built-in model
    assert asked[0] == any_suite.registry.suite("quick").model_copy(update=weights)
    assert results.path == Path("results/quick").absolute()


def test_a_suite_is_a_name_a_file_or_an_object(asked, tmp_path):
    (tmp_path / "mine.toml").write_text('methods = ["opcd"]\ntasks = ["rule_math"]\n')
    made = suite_settings.Suite(methods=("opcd",), tasks=("rule_math",), name="mine")
    opcd_bench.run("./mine.toml")
    opcd_bench.run(tmp_path / "mine.toml")
    opcd_bench.run(made)
    assert asked[0] == asked[1] == asked[2]
    opcd_bench.run(made, max_steps=3, output_dir=tmp_path / "elsewhere")
    assert asked[3].max_steps == 3 and asked[3].name.startswith("mine-")
    assert asked[3].output_dir == str(tmp_path / "elsewhere")


def test_without_a_suite_methods_and_tasks_make_one(asked):
    opcd_bench.run(None, methods="opcd,jsd", tasks="rule_math")
    assert asked[0].methods == ("opcd", "jsd") and asked[0].name.startswith("custom-")
    with pytest.raises(ConfigError, match="nothing to run"):
        opcd_bench.run(None)


def test_methods_take_parameters_and_may_be_files(asked, tmp_path, opcd):
    opcd("new", "method", "mine")
    opcd_bench.run(methods=["opcd[k=4]", "opcd[k=256]", tmp_path / "mine.py"])
    opcd_bench.run(methods="opcd[k=4],opcd,./mine.py")
    for suite in asked:
        assert suite.methods == ("opcd[k=4]", "opcd", "mine")
        assert Path(suite.method_files["mine"]).resolve() == tmp_path / "mine.py"


def test_a_size_is_that_of_a_named_suite(asked):
    opcd_bench.run("paper_sokoban", size="smoke")
    assert asked[0].name == "paper_sokoban-smoke"
    with pytest.raises(ConfigError, match="size='smoke' belongs to a suite"):
        opcd_bench.run(asked[0], size="smoke")
    with pytest.raises(UnknownName, match="smoke"):
        opcd_bench.run("paper_sokoban", size="smokey")


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"suite": "quik"}, UnknownName, "Did you mean 'quick'"),
        ({"methods": ["opdc"]}, UnknownName, "Did you mean 'opsd' or 'opcd'"),
        ({"tasks": ["rule_mat"]}, UnknownName, "Did you mean 'rule_math'"),
        ({"lerning_rate": 1e-4}, ConfigError, "did you mean 'learning_rate'"),
        ({"lerning_rate": 1e-4, "max_stpes": 3}, ConfigError, "2 settings cannot be used"),
        ({"max_steps": "3"}, ConfigError, r"max_steps: .*given: '3'"),
        ({"seeds": True}, ConfigError, "seeds"),
        ({"tasks": 3}, ConfigError, "tasks holds 3"),
        ({"methods": [str]}, ConfigError, "give names or files, not objects"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(given, error, says, asked):
    with pytest.raises(error, match=says):
        opcd_bench.run(**given)
    assert asked == [] and not Path("results").exists()


def test_a_method_object_is_refused_and_the_file_named(asked):
    method = opcd_bench.Method(
        "mine", "a test's", "a test", opcd_bench.STUDENT, opcd_bench.named("rkl_full")
    )
    with pytest.raises(ConfigError, match=r"\./my_method\.py"):
        opcd_bench.run(methods=[method])


def test_a_run_with_failed_cells_says_so_and_raises_nothing(asked, monkeypatch):
    run = any_suite.run
    monkeypatch.setattr(
        any_suite,
        "run",
        lambda *given, **more: types.SimpleNamespace(**vars(run(*given, **more)) | {"failed": 1}),
    )
    with pytest.warns(RuntimeWarning, match="1 of 1 cells failed"):
        opcd_bench.run(quiet=True)


def test_results_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        opcd_bench.Results(Path("x")).path = Path("y")
