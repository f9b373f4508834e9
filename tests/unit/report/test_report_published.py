"""Published numbers: beside the paper's own task and model, and nowhere else."""

import math
import tomllib
from importlib import resources

import pytest

from opcd_bench.report.page import published
from opcd_bench.runner import registry


def accuracies(task, model, setting):
    found = published.rows([task], model)
    found = found[found["setting"] == setting]
    return dict(zip(found["method"], found["accuracy"], strict=True))


def test_the_papers_own_task_and_model_get_its_rows():
    found = accuracies("dapo_math", "Qwen/Qwen3-8B", "experience gathered at test time")
    assert found == {
        "base": 75.0,
        "in-context teacher": 77.6,
        "context distillation (nearest here: forward_kl)": 78.5,
        "OPCD": 79.7,
    }
    filtered = accuracies(
        "frozen_lake_paper", "Qwen/Qwen3-1.7B", "experience filtered on validation"
    )
    assert filtered["OPCD"] == 38.3 and filtered["base"] == 6.3


def test_a_spread_is_given_where_the_paper_prints_one_and_nowhere_else():
    rows = published.rows(["dapo_math"], "Qwen/Qwen3-8B").set_index(["setting", "method"])
    at_test_time = rows.loc[("experience gathered at test time", "OPCD")]
    assert (at_test_time["accuracy spread"], at_test_time["ifeval"]) == (0.5, 81.7)
    filtered = rows.loc[("experience filtered on validation", "OPCD")]
    assert math.isnan(filtered["accuracy spread"])
    told = rows.loc[("experience filtered on validation", "in-context teacher")]
    assert math.isnan(told["ifeval"])


@pytest.mark.parametrize(
    ("tasks", "model"),
    [
        (["rule_math", "frozen_lake", "sokoban"], "micro-small"),
        (["dapo_math"], "micro-small"),
        (["dapo_math"], "Qwen/Qwen3-1.7B"),
        (["sokoban"], "Qwen/Qwen3-4B-Instruct-2507"),
        ([], "Qwen/Qwen3-8B"),
    ],
)
def test_no_other_task_or_model_gets_any(tasks, model):
    assert published.rows(tasks, model).empty
    assert list(published.rows(tasks, model).columns) == published.COLUMNS


def test_no_suite_of_the_built_in_model_shows_any():
    for name in registry.suites():
        suite = registry.suite(name)
        if suite.model == "micro-small":
            assert published.rows(suite.tasks, suite.model).empty, name


def test_every_number_of_the_file_has_a_name_and_is_a_percentage():
    text = resources.files("opcd_bench.report.page").joinpath("published.toml").read_text("utf-8")
    settings = tomllib.loads(text)["setting"]
    assert len(settings) == 12
    for setting in settings:
        for table in ("accuracy", "ifeval"):
            values = setting.get(table, {})
            assert set(values) <= set(published.METHODS), setting
            for value in values.values():
                first = value[0] if isinstance(value, list) else value
                assert 0 < first < 100
    keys = [(s["task"], s["model"], s["setting"]) for s in settings]
    assert len(set(keys)) == len(keys)
