"""`opcd-bench settings`: all that is declared, as it is declared."""

import json

import pytest

from opcd_bench.cli import settings
from opcd_bench.config.experience import Experience
from opcd_bench.config.suite import Suite


def test_every_setting_of_a_suite_and_of_its_experience_is_listed(opcd):
    rows = json.loads(opcd("settings", "--json").out)["settings"]
    inner = [f"experience.{name}" for name in Experience.model_fields]
    assert [row["name"] for row in rows] == [*Suite.model_fields, *inner]
    assert all(row["help"] and row["type"] for row in rows)
    table = opcd("settings").out
    for name in Suite.model_fields:
        assert f"\n{name} " in table


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "seeds",
            ["seeds: int; default: 1", "--seeds …, or --set seeds=…", "identity", "1 to 10,000"],
        ),
        ("history", ['history: "last" or "full"; default: "last"', "history = …"]),
        ("methods", ["methods: list of str; default: (required)"]),
        ("bf16", ["bf16: bool; default: false", "On the command line: --set bf16=…"]),
        ("retention_items", ["default: none"]),
        ("threads", ["Class: runtime"]),
        ("experience.items", ["--set 'experience={items = …}'", "under [experience]: items = …"]),
    ],
)
def test_a_setting_by_name_says_type_default_range_class_and_where_it_is_typed(opcd, name, lines):
    told = opcd("settings", name)
    assert told.code == 0
    for line in lines:
        assert line in told.out, told.out


def test_a_setting_that_is_not_there_points_to_the_list(opcd):
    assert settings.ALL == "What each is: opcd-bench settings"
    assert settings.ALL in opcd("run", "--suite", "quick", "--set", "max_step=3", "--dry-run").err
    assert settings.ALL not in opcd("extract", "--tasks", "rule_math", "--set", "item=3").err


def test_the_page_of_the_documentation_has_the_same(monkeypatch):
    pytest.importorskip("mkdocs")
    import importlib.util
    from pathlib import Path

    file = Path(__file__).parents[3] / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.settings_page()
    seeds = next(line for line in page.splitlines() if line.startswith("| `seeds`"))
    assert seeds.startswith(
        "| `seeds`{ #seeds } | `int` | `1` | identity | Number of training seed"
    )
    assert seeds.endswith("(from 1 to 10,000) |")
