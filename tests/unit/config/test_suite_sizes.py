"""Sizes of a suite: settings put over its own, in a folder of their own; and the packaged ones."""

import json

import pytest
from small_data import write_all

from opcd_bench.cli import settings
from opcd_bench.config.suite import make_suite
from opcd_bench.envs import data_files, data_sets
from opcd_bench.envs.task import SPLITS, assert_disjoint
from opcd_bench.errors import ConfigError, MissingData, UnknownName
from opcd_bench.evaluation.task_scores import eval_sampling, retention_sampling
from opcd_bench.runner import registry

PAPERS = {
    "paper_math": ("dapo_math", "Qwen/Qwen3-8B"),
    "paper_frozen_lake": ("frozen_lake_paper", "Qwen/Qwen3-1.7B"),
    "paper_sokoban": ("sokoban_paper", "Qwen/Qwen3-4B-Instruct-2507"),
    "paper_medical": ("medmcqa", "Qwen/Qwen2.5-7B-Instruct"),
    "paper_safety": ("safety", "Qwen/Qwen2.5-7B-Instruct"),
    "paper_cross_size": ("dapo_math", "Qwen/Qwen3-1.7B"),
}
LEAST = {"sft_context", "forward_kl", "opcd", "opcd_stop_gradient"}

OWN = """\
methods = ["opcd"]
tasks = ["rule_math", "frozen_lake"]
seeds = 3
learning_rate = [1e-6, 1e-5]

[task_settings.frozen_lake]
batch_size = 8

[sizes.tiny]
tasks = ["rule_math"]
seeds = 1
learning_rate = [1e-3]
task_settings = {}

[sizes.harsh]
learning_rate = [1e-2]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    return path


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Small data sets in the published ones' schemas."""
    return str(write_all(tmp_path_factory.mktemp("data")))


def every_size():
    """(suite, size) of all that ship; None: as written."""
    return [
        pytest.param(name, size, id=f"{name}-{size}" if size else name)
        for name in registry.suites()
        for size in (None, *registry.suite_sizes(name))
    ]


# --- reading ------------------------------------------------------------------------------------


def test_a_size_puts_its_settings_over_the_suites_own_and_has_a_folder_of_its_own(file):
    tiny = registry.suite(file, size="tiny")
    assert (tiny.name, tiny.seeds, tiny.tasks, tiny.learning_rate) == (
        "mine-tiny", 1, ("rule_math",), (1e-3,),
    )  # fmt: skip
    assert tiny.task_settings == {}
    assert registry.suite(file, {"seeds": 2}, size="tiny").seeds == 2
    assert registry.suite_sizes(file) == ("tiny", "harsh")


def test_without_a_size_the_suite_is_as_written(file):
    whole = registry.suite(file)
    assert (whole.name, whole.seeds, whole.learning_rate) == ("mine", 3, (1e-6, 1e-5))
    assert whole.for_task("frozen_lake").batch_size == 8


def test_an_unknown_size_is_one_error_that_lists_those_there_are(file):
    with pytest.raises(UnknownName) as caught:
        registry.suite(file, size="tinny")
    told = str(caught.value)
    assert told.startswith("unknown size 'tinny' of suite 'mine'. Did you mean 'tiny'?")
    assert "Known: harsh, tiny." in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('sizes = "small"\n', r"sizes must hold one table per size: write \[sizes\.smoke\]"),
        ("[sizes]\nsmoke = 3\n", r"write \[sizes\.smoke\]"),
        ('[sizes.smoke]\nname = "x"\n', r"sizes\.smoke\.name: a size cannot have a name"),
        ("[sizes.smoke]\nsedes = 1\n", r"size 'smoke': 1 setting cannot be used\n  sedes: no such"),
        ("[sizes.smoke.sizes.less]\nseeds = 1\n", r"size 'smoke': .*\n  sizes: no such setting"),
    ],
)
def test_a_size_that_cannot_be_used_says_why(tmp_path, text, told):
    path = tmp_path / "bad.toml"
    path.write_text(f'methods = ["opcd"]\ntasks = ["rule_math"]\n{text}')
    with pytest.raises(ConfigError, match=told):
        registry.suite(path, size="smoke")


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--suite", "paper_math", "--size", "smok"], "Did you mean 'smoke'?"),
        (["--suite", "quick", "--size", "smoke"], "suite 'quick' has no sizes; leave out --size"),
        (["--methods", "opcd", "--size", "smoke"], "--size smoke is a suite's; name the suite too"),
    ],
)
def test_a_size_that_is_not_there_is_one_message(opcd, words, told):
    answer = opcd("run", *words, "--dry-run")
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err and answer.err.startswith("opcd-bench: ")


def test_settings_of_the_command_line_go_over_those_of_the_size():
    made = settings.make("paper_sokoban", {"max_steps": 3}, size="smoke")
    assert made.max_steps == 3 and made.model == "micro-small"
    assert made.name.startswith("paper_sokoban-smoke-")
    grown = settings.make("paper_sokoban", {"methods": "opcd", "seeds": 2}, size="smoke")
    assert grown.name == "paper_sokoban-smoke"


def test_suites_are_listed_with_their_sizes(opcd):
    rows = {row["name"]: row for row in json.loads(opcd("suites", "--json").out)["suites"]}
    assert rows["paper_math"]["sizes"] == ["eight_gpus", "smoke"] and rows["quick"]["sizes"] == []
    table = opcd("suites").out
    assert "sizes" in table.splitlines()[0]
    line = next(line for line in table.splitlines() if line.startswith("paper_math "))
    assert " eight_gpus,smoke " in line


def test_a_broken_size_is_shown_with_its_reason(opcd, monkeypatch, file):
    file.write_text(OWN + "dev_itmes = 3\n")
    monkeypatch.setattr(registry, "suites", lambda: {"mine": file})
    monkeypatch.setattr(registry, "suite_file", lambda name: file)
    answer = opcd("suites")
    assert answer.code == 1
    assert "sizes.harsh.dev_itmes: no such setting; did you mean 'dev_items'?" in answer.err


# --- those that ship ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "size"), every_size())
def test_every_size_of_every_suite_prints_its_cells(opcd, data_dir, name, size):
    """It validates, its methods and tasks load, and each of its cells has a name."""
    words = ["run", "--suite", name, "--dry-run", "--json"]
    # Where the papers' data are not at hand, small sets in their schemas say the same of a suite.
    words += ["--size", size] if size else []
    words += [] if size == "smoke" else ["--data-dir", data_dir]
    answer = opcd(*words)
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    made, cells = told["suite"], told["chains" if "chains" in told else "cells"]
    assert made["name"] == (f"{name}-{size}" if size else name)
    swept = (made["sweep_seeds"] or made["seeds"]) * len(made["learning_rate"])
    if isinstance(made["headline_learning_rate"], float):
        swept += made["seeds"] - made["sweep_seeds"]
    assert len(cells) == len(made["methods"]) * len(made["tasks"]) * swept
    assert len({cell["name"] for cell in cells}) == len(cells)


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_suite_has_the_papers_task_and_model_and_this_projects_protocol(name):
    made = registry.suite(name)
    assert (made.tasks, made.model) == ((PAPERS[name][0],), PAPERS[name][1])
    assert set(made.methods) >= LEAST
    assert 5e-6 in made.learning_rate and len(made.learning_rate) > 2  # swept alike for all
    assert made.seeds >= 3 and made.eval_samples >= 2
    assert made.max_steps == 50 and made.batch_size in (64, 128)
    assert (made.top_p, made.top_k, made.lr_scheduler_type) == (1.0, 0, "constant")
    decoding = retention_sampling(made)
    assert made.retention == ("ifeval",)
    assert (decoding.temperature, decoding.top_p, decoding.top_k) == (0.7, 0.8, 20)


def test_four_maps_choose_no_checkpoint_and_no_rate():
    """Frozen Lake's dev has four maps: what would be chosen on them is fixed in advance."""
    lake = registry.suite("paper_frozen_lake")
    assert (lake.choose, lake.headline_learning_rate) == ("last", 5e-6)
    for name in set(PAPERS) - {"paper_frozen_lake"}:
        made = registry.suite(name)
        assert (made.choose, made.headline_learning_rate) == ("dev", "dev"), name


def test_across_sizes_a_larger_model_teaches_told_and_plain():
    made = registry.suite("paper_cross_size")
    assert made.teacher_model == "Qwen/Qwen3-8B"
    teachers = {name: registry.method(name).teacher for name in made.methods}
    larger = {name: one.reads for name, one in teachers.items() if one.weights == "larger"}
    assert larger == {
        "sft_context_larger": "context",
        "opcd_larger": "context",
        "opcd_larger_plain": "nothing",
    }


@pytest.mark.parametrize("name", PAPERS)
def test_a_smoke_size_needs_neither_network_nor_gpu(name):
    made = registry.suite(name, size="smoke")
    assert made.model == "micro-small" and made.teacher_model in (None, "micro-small")
    assert made.retention == ("ifeval_micro",) and not made.bf16
    with data_sets.local_only():
        for task in made.tasks:
            assert registry.task_of(made, task).examples("test")


# --- retention's own decoding ---------------------------------------------------------------------


def test_retention_decodes_as_every_evaluation_does_unless_the_suite_says_otherwise():
    given = {"methods": ["opcd"], "tasks": ["rule_math"], "eval_temperature": 0.6}
    alike = make_suite({**given, "eval_top_p": 0.95, "eval_top_k": 20}, "a test")
    assert retention_sampling(alike) == eval_sampling(alike).__class__(0.6, 0.95, 20, 160)
    own = make_suite(
        {**given, "retention_temperature": 0, "retention_top_p": 0.8, "retention_top_k": 0},
        "a test",
    )
    assert retention_sampling(own).greedy
    assert (retention_sampling(own).top_p, retention_sampling(own).top_k) == (0.8, 0)
    assert eval_sampling(own).temperature == 0.6
    assert "retention_temperature" not in alike.identity()
    assert own.identity()["retention_temperature"] == 0.0


# --- the packaged data ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dapo_math", "medmcqa", "safety"])
def test_the_packaged_data_make_whole_tasks(name):
    with data_sets.local_only():
        task = registry.task(name, data_dir="packaged")
        assert_disjoint(task)
        assert all(len(task.examples(split)) >= 10 for split in SPLITS)
        references = {example.reference for example in task.examples("test")}
        assert len(references) > 1


def test_the_packaged_data_stand_in_for_no_other_set(monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("asked the Hub"))
    with pytest.raises(MissingData, match="'gsm8k': it is not among the packaged data") as caught:
        registry.task("gsm8k", data_dir="packaged").examples("test")
    assert "dapo_math, ethos, hatecheck, medmcqa, tweet_eval" in str(caught.value)


def test_a_folder_of_ones_own_that_is_called_packaged_is_named_with_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "packaged").mkdir()
    assert data_files.located("./packaged").resolve() == tmp_path / "packaged"
    assert (data_files.located("packaged") / "README.md").is_file()
    assert data_files.located(None) is None


def test_a_suite_may_begin_with_a_byte_order_mark(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_bytes(b'\xef\xbb\xbfmethods = ["opcd"]\ntasks = ["rule_math"]\n')
    assert registry.suite(file).methods == ("opcd",)


def test_all_that_is_wrong_in_a_file_is_said_at_once_tasks_and_other_sizes_too(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text(
        'methods = ["opcd"]\ntasks = ["rule_math"]\nsedes = 3\n'
        "[task_settings.rule_mat]\nmax_steps = 3\n[sizes.smoke]\nmax_stps = 3\nseeds = 1\n"
    )
    with pytest.raises(ConfigError) as error:
        registry.suite(file)
    told = str(error.value)
    assert "3 settings cannot be used" in told
    assert "\n  sedes: no such setting; did you mean 'seeds'?" in told
    assert "\n  task_settings: rule_mat: the suite has no such task; it has rule_math" in told
    assert "\n  sizes.smoke.max_stps: no such setting; did you mean 'max_steps'?" in told
    with pytest.raises(ConfigError, match=r"size 'smoke': 3 settings cannot be used"):
        registry.suite(file, size="smoke")


def test_a_file_that_cannot_name_a_folder_says_what_to_do(tmp_path):
    file = tmp_path / "sp ace.toml"
    least = 'methods = ["opcd"]\ntasks = ["rule_math"]\n'
    file.write_text(least)
    with pytest.raises(ConfigError, match='Rename the file, or write name = "sp_ace" into it'):
        registry.suite(file)
    file.write_text(f'name = "sp_ace"\n{least}')
    assert registry.suite(file).name == "sp_ace"
