"""Stock lm_eval runs as external rows: what is read, what is shown, and what is refused."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scipy import stats
from stock_lm_eval import DATE, SAMPLES, STRICT, key_of, results, sample, written

from opcd_bench.errors import ConfigError, DataError, StoreError
from opcd_bench.evaluation import lm_eval_tasks
from opcd_bench.report.analysis import external, lm_eval_files
from opcd_bench.report.analysis.load import load
from opcd_bench.store.suite_dir import SuiteDir
from opcd_bench.store.verification import verify


@pytest.fixture
def suite(tmp_path):
    made = SuiteDir(tmp_path / "results" / "toys")
    made.merge({"name": "toys"})
    return made.path


def shown(suite):
    return load(suite).external.set_index("metric")


def test_sample_logs_give_scores_with_paired_style_intervals(suite, tmp_path):
    record = lm_eval_files.read(written(tmp_path / "run"))
    external.store(suite, "stock", record)
    row = shown(suite).loc["prompt_level_strict_acc"]
    assert row["value"].value == pytest.approx(3 / 5)
    assert row["value"].low < 3 / 5 < row["value"].high
    assert (row["n"], row["interval from"], row["primary"]) == (5, "samples", True)
    assert (row["model"], row["lm_eval"], row["task"]) == ("org/model", "0.4.13", "ifeval")
    assert row["task_hash"] == key_of(SAMPLES)


@pytest.mark.parametrize(
    ("value", "error", "values"),
    [
        (1.0, 0.0, []), (1.0, None, [[1.0]] * 40), (39 / 40, 0.025, []),
        (39 / 40, None, [[1.0]] * 39 + [[0.0]]), (0.0, 0.0, []),
    ],
)  # fmt: skip
def test_shares_near_the_ends_have_an_interval_between_0_and_1(value, error, values):
    measure = {"n": 40, "value": value, "stderr": error, "higher_is_better": True}
    found, basis = external._interval(measure, values)
    low, high = proportion_ends(round(40 * value))
    assert basis == ("samples" if values else "standard error")
    assert found.low <= low + 1e-9 and high - 1e-9 <= found.high
    assert 0.0 <= found.low < found.high <= 1.0


def proportion_ends(right):
    """Wilson's, as scipy has it."""
    return stats.binomtest(right, 40).proportion_ci(0.95, method="wilson")


def test_instructions_are_weighted_by_how_many_a_prompt_has(suite, tmp_path):
    external.store(suite, "stock", lm_eval_files.read(written(tmp_path / "run")))
    row = shown(suite).loc["inst_level_strict_acc"]
    assert row["value"].value == pytest.approx(5 / 7)
    assert row["interval from"] == "samples" and not row["primary"]
    by_kind = external.instructions(suite).set_index("instruction")
    assert by_kind.loc["a:one", "followed"].value == pytest.approx(4 / 5)
    assert by_kind.loc["b:two", "followed"].value == pytest.approx(1 / 2)
    assert by_kind.loc["b:two", "n"] == 2


def test_without_a_log_the_interval_is_that_of_the_standard_error(suite, tmp_path):
    made, _ = written(tmp_path / "run")
    external.store(suite, "stock", lm_eval_files.read([made]))
    row = shown(suite).loc["prompt_level_strict_acc"]
    assert row["value"].low == pytest.approx(0.6 - 1.959964 * 0.2)
    assert row["value"].high == pytest.approx(0.6 + 1.959964 * 0.2)
    assert row["interval from"] == "standard error" and row["n"] == 5
    bare = shown(suite).loc["inst_level_strict_acc"]
    assert math.isnan(bare["value"].low) and bare["interval from"] == ""


def test_a_folder_stands_for_the_files_below_it(tmp_path):
    written(tmp_path / "out" / "org__model")
    record = lm_eval_files.read([tmp_path / "out"])
    assert [file["name"] for file in record["files"]] == [
        f"results_{DATE}.json", f"samples_ifeval_{DATE}.jsonl"
    ]  # fmt: skip
    assert len(record["samples"]) == 5
    assert record["samples"][0]["example_id"] == SAMPLES[0]["doc_hash"][:16]


def test_a_perplexity_is_no_share(suite, tmp_path):
    content = results(SAMPLES)
    content["results"] = {"wiki": {"word_perplexity,none": 0.9, "bits,none": 3.5, "alias": "w"}}
    content["higher_is_better"] = {"wiki": {"word_perplexity": False, "bits": True}}
    (tmp_path / "results_x.json").write_text(json.dumps(content))
    external.store(suite, "stock", lm_eval_files.read([tmp_path / "results_x.json"]))
    assert shown(suite)["share"].to_dict() == {"word_perplexity": False, "bits": False}


def test_a_group_without_a_count_and_a_blank_score_are_read(tmp_path):
    content = results(SAMPLES)
    content["results"]["mmlu"] = {"acc,none": 0.5, "acc_stderr,none": 0.1, "alias": "mmlu"}
    content["results"]["empty"] = {"alias": "empty", " ": " "}
    (tmp_path / "results_x.json").write_text(json.dumps(content))
    rows = lm_eval_files.read([tmp_path / "results_x.json"])["measures"]
    (row,) = [row for row in rows if row["task"] == "mmlu"]
    assert (row["n"], row["value"], row["stderr"]) == (None, 0.5, 0.1)
    assert "empty" not in {row["task"] for row in rows}


def test_a_score_that_is_not_a_number_is_left_out(tmp_path):
    content = results(SAMPLES)
    content["results"]["ifeval"]["prompt_level_strict_acc,none"] = math.nan
    (tmp_path / "results_x.json").write_text(json.dumps(content))  # lm_eval writes NaN like this
    rows = lm_eval_files.read([tmp_path / "results_x.json"])["measures"]
    assert [row["metric"] for row in rows] == ["inst_level_strict_acc"]


def test_what_is_imported_again_replaces_the_row_and_the_suite_still_verifies(suite, tmp_path):
    record = lm_eval_files.read(written(tmp_path / "run"))
    path, replaced = external.store(suite, "stock", record)
    first = path.read_bytes()
    assert not replaced and path == suite / "external" / "stock.json"
    assert external.store(suite, "stock", record) == (path, True)
    assert path.read_bytes() == first
    assert [p for p in verify(suite) if p.damage] == []


def test_nothing_imported_is_an_empty_frame_with_its_columns(suite):
    assert list(load(suite).external.columns) == external.COLUMNS
    assert load(suite).external.empty
    assert list(external.instructions(suite).columns) == external.INSTRUCTIONS


def refused(paths, *says):
    with pytest.raises(DataError) as caught:
        lm_eval_files.read(paths)
    for text in says:
        assert text in str(caught.value)


def test_a_log_of_another_task_is_refused_by_its_hash(tmp_path):
    other = [sample(at + 100, followed) for at, followed in enumerate(STRICT)]
    refused(written(tmp_path / "run", log=other), "samples_ifeval", "hash", "no task")


def test_a_log_of_another_model_is_refused_by_its_mean(tmp_path):
    """The same documents, other replies: lm_eval's hash is equal, the scores are not."""
    other = [sample(at, [True] * len(followed)) for at, followed in enumerate(STRICT)]
    refused(written(tmp_path / "run", log=other), "is 1.0000", "0.6000", "another run")


def test_two_models_and_a_task_twice_are_refused(tmp_path):
    one, _ = written(tmp_path / "one")
    other, _ = written(tmp_path / "other", model="org/other")
    refused([one, other], "2 models", "org/other")
    again, _ = written(tmp_path / "again")
    refused([one, again], "ifeval is in both", "leave one of them out")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("results_x.json", "{", "no JSON"),
        ("results_x.json", "[]", "a list, not an object"),
        ("results_x.json", '{"results": {}}', "configs, n-samples, lm_eval_version"),
        ("results_x.json", b"\xff\xfe", "no UTF-8 text"),
        ("results_x.txt", "{}", "neither .json nor .jsonl"),
        ("samples_x.jsonl", "{}", "only sample logs"),
    ],
)
def test_a_wrong_file_is_one_clear_message(tmp_path, name, text, says):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused([path], str(path), says, "--log_samples")


def test_a_bad_line_of_a_log_is_named_by_its_number(tmp_path):
    made, logged = written(tmp_path / "run")
    logged.write_text(json.dumps(SAMPLES[0]) + '\n{"doc_id": 1}\n')
    refused([made, logged], f"{logged}, line 2", "doc_hash")
    logged.write_text("\n")
    refused([made, logged], "empty")


def test_a_sample_ends_with_its_newline_alone(tmp_path):
    """lm_eval writes characters as they are, and responses may hold other line ends of Unicode."""
    made, logged = written(tmp_path / "run")
    said = [{**row, "resps": [["one\u2028two\x85three"]]} for row in SAMPLES]
    logged.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in said))
    assert len(lm_eval_files.read([made, logged])["samples"]) == len(SAMPLES)


def test_a_file_that_is_not_there_and_an_empty_folder_are_refused(tmp_path):
    refused([tmp_path / "results_none.json"], "no such file")
    refused([tmp_path], "no results_*.json below this folder")


def test_results_without_a_score_are_refused(tmp_path):
    content = results(SAMPLES) | {"results": {"old": {"acc": 0.5, "acc_stderr": 0.1}}}
    (tmp_path / "results_x.json").write_text(json.dumps(content))  # lm_eval 0.3 wrote such keys
    refused([tmp_path / "results_x.json"], "no score")


def test_a_name_that_is_no_files_and_a_folder_that_is_no_suites_are_refused(suite, tmp_path):
    record = lm_eval_files.read(written(tmp_path / "run"))
    with pytest.raises(ConfigError, match="cannot name a file"):
        external.store(suite, "../escape", record)
    with pytest.raises(StoreError, match="no suite is stored here"):
        external.store(tmp_path, "stock", record)


@pytest.mark.slow
def test_the_files_of_a_real_stock_run_are_read(suite, tmp_path):
    tasks = Path(lm_eval_tasks.__file__).parent
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lm_eval", "run", "--model", "dummy", "--log_samples"),
            *("--include_path", str(tasks), "--tasks", "ifeval_micro", "--limit", "12"),
            *("--output_path", str(tmp_path / "out")),
        ],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    external.store(suite, "stock", lm_eval_files.read([tmp_path / "out"]))
    found = shown(suite)
    assert found.loc["prompt_level_strict_acc", "n"] == 12
    assert found.loc["prompt_level_strict_acc", "primary"]
    assert external.instructions(suite)["n"].sum() >= 12
