"""Cells are pure values: what they are called, in which order, and what changes their hash."""

import dataclasses

import pytest

from opcd_bench.config.fields import GRID_FIELDS
from opcd_bench.config.headline_rule import DevScore
from opcd_bench.config.suite import Suite, make_suite
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.distillation.method import STUDENT, TOLD_TEACHER, Method, Teacher
from opcd_bench.envs.task import BestPossible, Context, Task
from opcd_bench.errors import ConfigError, InvalidLoss
from opcd_bench.runner import grid
from opcd_bench.runner.grid import (
    Cell,
    cells,
    headline_cells,
    headline_rates,
    rate_text,
    rates_and_seeds,
    steps_text,
)


class Telling(Task):
    version, summary = 1, "A test's."

    def __init__(self, name, told="a rule", history="last"):
        self.name, self.told, self.history = name, told, history

    def options(self):
        return {"history": self.history}

    def context(self):
        return Context(self.told)

    def examples(self, split):
        return []

    def open(self, example, seed):
        raise NotImplementedError

    def floors(self, examples):
        return []

    def best_possible(self, examples):
        return BestPossible(1.0, "a test")


METHODS = {
    "a": Method("a", "one", "a test", STUDENT, named("rkl_tail", k=8)),
    "b": Method("b", "two", "a test", TOLD_TEACHER, named("nll")),
}
TASKS = {name: Telling(name) for name in ("lake", "math")}


def suite(**values) -> Suite:
    least = {"methods": ["a", "b"], "tasks": ["math", "lake"], "learning_rate": [1e-4]}
    return make_suite({**least, **values}, "a test")


def one(methods=METHODS, tasks=TASKS, **values) -> Cell:
    return cells(suite(**values), methods, tasks)[0]


def test_methods_are_innermost_so_that_an_interrupted_grid_holds_whole_comparisons():
    made = cells(suite(seeds=2), METHODS, TASKS)
    assert [(c.task, c.seed, c.method) for c in made] == [
        ("math", 0, "a"), ("math", 0, "b"), ("math", 1, "a"), ("math", 1, "b"),
        ("lake", 0, "a"), ("lake", 0, "b"), ("lake", 1, "a"), ("lake", 1, "b"),
    ]  # fmt: skip
    assert len({cell.name for cell in made}) == 8


def test_the_headline_rate_comes_first_with_all_seeds_and_the_others_with_the_sweeps():
    swept = suite(
        seeds=3, learning_rate=[1e-5, 1e-4, 1e-3], headline_learning_rate=1e-4, sweep_seeds=1
    )
    assert rates_and_seeds(swept) == (
        (1e-4, 0), (1e-4, 1), (1e-4, 2), (1e-5, 0), (1e-3, 0),
    )  # fmt: skip
    assert len(cells(swept, METHODS, TASKS)) == 5 * 2 * 2


def test_without_a_headline_every_rate_runs_with_every_seed_in_the_order_given():
    assert rates_and_seeds(suite(seeds=2, learning_rate=[3e-4, 1e-4])) == (
        (3e-4, 0), (3e-4, 1), (1e-4, 0), (1e-4, 1),
    )  # fmt: skip


def test_a_cell_is_named_after_what_it_is():
    cell = one()
    assert cell.name == f"math--a--lr1e-04--s0--{cell.hash10}"
    assert len(cell.hash10) == 10 and set(cell.hash10) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("rate", "text"),
    [(1e-4, "1e-04"), (5e-6, "5e-06"), (2.5e-5, "2.5e-05"), (1.0, "1e+00"), (0.0123, "1.23e-02")],
)
def test_a_rate_is_written_with_every_digit_that_it_has(rate, text):
    assert rate_text(rate) == text
    assert float(text) == rate


def test_how_long_cells_train_is_said_task_by_task_where_tasks_differ():
    assert steps_text(suite(tasks=["p", "q"], max_steps=20)) == "20 steps"
    apart = suite(tasks=["p", "q", "r"], max_steps=20, task_settings={"q": {"max_steps": 6}})
    assert steps_text(apart) == "20 (p, r) or 6 (q) steps"


CHANGES = {
    "max_steps": 40, "batch_size": 32, "num_generations": 2, "micro_batch_size": 8,
    "micro_batch_tokens": 512,
    "model": "other", "revision": "main", "teacher_model": "large", "dtype": "float32",
    "bf16": True, "reduction": "sequence_mean", "lr_scheduler_type": "cosine", "warmup_steps": 5,
    "weight_decay": 0.1, "adam_beta1": 0.8, "adam_beta2": 0.99, "max_grad_norm": 0.5,
    "temperature": 0.7, "top_p": 0.9, "top_k": 20, "max_completion_length": 64,
    "max_prompt_length": 512, "overlong": "skip", "eval_steps": 5, "eval_retention": False,
    "choose": "last", "dev_items": 50, "test_items": 100, "eval_samples": 2,
    "eval_temperature": 0.6, "eval_top_p": 0.95, "eval_top_k": 20, "retention": [],
    "retention_items": 10, "retention_max_completion_length": 80, "history": "full",
    "experience": {"items": 3}, "round": 2,
    "engine": "vllm", "teacher_engine": "vllm", "missing_ids": "drop", "enable_thinking": True,
    "optim": "adamw_8bit", "lora_rank": 8, "model_weights": "aa", "teacher_weights": "bb",
    "attn_implementation": "eager",
    "retention_temperature": 0.7, "retention_top_p": 0.8, "retention_top_k": 20,
    "probe_items": 10, "train_items": 10, "processes": 2,
}  # fmt: skip
UNCHANGING = {
    "method_files": {"a": "./a.py"}, "task_files": {"lake": "./lake.py"},
    "name": "other", "summary": "other", "gradient_checkpointing": True, "data_dir": "data",
    "model_dir": "models",
    "output_dir": "elsewhere", "device": "cpu", "rollout_batch_size": 4, "save_steps": 3,
    "keep_checkpoints": "all", "report_to": "wandb", "threads": 1, "jobs": 2, "cluster": "slurm",
    "vllm_options": {"enforce_eager": True}, "trust_remote_code": True,
    "allow_pickle": True, "entrants": {"mine": "./mine"}, "interpolate": [0.5],
}  # fmt: skip
OF_THE_GRID = set(GRID_FIELDS)  # fmt: skip
PAIRED = {"consolidate", "begin_weights", "begin_folder", "vllm_url", "teacher_url", "lora_alpha",
          "lora_target_modules", "cluster_options"}  # fmt: skip
"""Refused on their own; test_rounds.py says what the first three change, tests below the rest."""


def test_the_two_tests_below_speak_of_every_field():
    assert set(CHANGES) | set(UNCHANGING) | OF_THE_GRID | PAIRED == set(Suite.model_fields)


@pytest.mark.parametrize(("field", "value"), CHANGES.items())
def test_a_setting_that_numbers_depend_on_changes_the_hash(field, value):
    assert one(**{field: value}).hash10 != one().hash10


def test_the_settings_of_an_adapter_change_the_hash_of_a_run_that_trains_one():
    plain = one(lora_rank=8).hash10
    assert one(lora_rank=8, lora_alpha=3).hash10 != plain
    assert one(lora_rank=8, lora_target_modules="q_proj").hash10 != plain


def test_what_a_cluster_is_asked_for_leaves_the_hash():
    asked = {"gpus": 1, "minutes": 60, "slurm_constraint": "a100"}
    assert one(cluster="slurm", cluster_options=asked).hash10 == one().hash10


@pytest.mark.parametrize(("field", "value"), UNCHANGING.items())
def test_a_setting_that_moves_no_number_leaves_the_hash(field, value):
    assert one(**{field: value}).hash10 == one().hash10


def test_the_learning_rate_of_adapted_teachers_is_theirs_alone():
    both = {"a": METHODS["a"], "b": dataclasses.replace(METHODS["a"], name="b", teacher=Teacher(
        weights="adapted", by="grpo"))}  # fmt: skip
    plain, adapted = ({c.method: c for c in cells(suite(methods=["a", "b"], **more), both, TASKS)}
                      for more in ({}, {"adapted_learning_rate": 1e-5}))  # fmt: skip
    assert plain["a"].hash10 == adapted["a"].hash10 and plain["b"].hash10 != adapted["b"].hash10
    made = suite(methods=["a", "b"], adapted_learning_rate=1e-5)
    assert grid.adapting_rate(made) == 1e-5
    assert grid.adapting_rate(suite()) == suite().learning_rate[0]
    teacher = both["b"].teacher
    assert grid.adaptation(made, teacher)["adapted"]["learning_rate"] == 1e-5


def test_more_methods_tasks_rates_or_seeds_leave_a_cells_hash():
    grown = suite(
        seeds=5, learning_rate=[1e-4, 1e-3], headline_learning_rate=1e-4, sweep_seeds=2,
        methods=["b", "a"], tasks=["lake", "math"],
    )  # fmt: skip
    assert {cell.name for cell in cells(suite(), METHODS, TASKS)} < {
        cell.name for cell in cells(grown, METHODS, TASKS)
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"loss": named("rkl_tail", k=9)},
        {"loss": named("rkl_gen", k=8)},
        {"writer": TOLD_TEACHER},
        {"teacher": Teacher(reads="nothing")},
        {"teacher": Teacher(weights="ema", rate=0.9)},
    ],
)
def test_another_choice_of_the_method_changes_the_hash(changed):
    other = {**METHODS, "a": dataclasses.replace(METHODS["a"], **changed)}
    assert one(methods=other).hash10 != one().hash10


def test_words_about_a_method_leave_the_hash():
    other = {**METHODS, "a": dataclasses.replace(METHODS["a"], summary="new", source="elsewhere")}
    assert one(methods=other).hash10 == one().hash10


def test_another_version_option_or_context_of_the_task_changes_the_hash():
    newer = Telling("math")
    newer.version = 2
    variants = [newer, Telling("math", told="another rule"), Telling("math", history="full")]
    hashes = {one(tasks={**TASKS, "math": task}).hash10 for task in variants}
    assert len(hashes | {one().hash10}) == 4


def test_an_edited_loss_of_ones_own_changes_the_hash():
    def first(student, teacher, ids):
        return student - teacher

    def second(student, teacher, ids):
        return student - 2 * teacher

    hashes = {
        one(methods={**METHODS, "a": dataclasses.replace(METHODS["a"], loss=loss)}).hash10
        for loss in (first, second)
    }
    assert len(hashes) == 2


def test_a_larger_teacher_that_the_suite_does_not_name_is_refused():
    larger = {**METHODS, "a": dataclasses.replace(METHODS["a"], teacher=Teacher("larger"))}
    with pytest.raises(ConfigError, match="--teacher-model"):
        cells(suite(), larger, TASKS)
    assert cells(suite(teacher_model="some/model"), larger, TASKS)


@pytest.mark.parametrize(
    "loss",
    [
        named("pg_k1"),
        named("pg_k1", importance_weight=True),
        named("rkl_hybrid", k=4, importance_weight=True),
        PolicyGradient(),
    ],
    ids=["sampled", "weighted", "hybrid, weighted", "policy gradient"],
)
def test_a_loss_that_needs_the_students_whole_distribution_refuses_a_filtered_writer(loss):
    """The weight p / mu is 1 where mu is logged of the whole distribution: it mends nothing."""
    sampled = {**METHODS, "a": dataclasses.replace(METHODS["a"], loss=loss)}
    assert cells(suite(), sampled, TASKS)
    for filtered in ({"top_p": 0.95}, {"top_k": 20}):
        with pytest.raises(InvalidLoss, match=r"top_p=1\.0.*top_k=0"):
            cells(suite(**filtered), sampled, TASKS)


def test_a_loss_that_sums_over_its_support_takes_a_filtered_writer():
    assert cells(suite(top_p=0.95, top_k=20), METHODS, TASKS)


def test_the_headline_rate_is_the_best_on_dev_and_the_smallest_of_equals():
    chosen = suite(
        learning_rate=[1e-4, 1e-3, 1e-2], seeds=3, sweep_seeds=1, headline_learning_rate="dev",
        headline_rule="best",
    )  # fmt: skip
    assert len(cells(chosen, METHODS, TASKS)) == 3 * 2 * 2
    dev = {
        ("math", "a", 1e-4): 0.5,
        ("math", "a", 1e-3): 0.7,
        ("math", "a", 1e-2): 0.7,
        ("math", "b", 1e-4): 0.2,
    }
    scores = {key: [DevScore(value, 100)] for key, value in dev.items()}
    rates = headline_rates(chosen, scores)
    assert rates == {("math", "a"): 1e-3, ("math", "b"): 1e-4}
    more = headline_cells(chosen, METHODS, TASKS, rates)
    assert [(c.method, c.learning_rate, c.seed) for c in more] == [
        ("a", 1e-3, 1), ("b", 1e-4, 1), ("a", 1e-3, 2), ("b", 1e-4, 2),
    ]  # fmt: skip


def test_a_pilot_takes_seeds_that_the_comparison_does_not():
    settings = {"learning_rate": [1e-3, 1e-2], "seeds": 3, "sweep_seeds": 1}
    pilot, reported = (
        suite(**settings, headline_learning_rate="dev", first_seed=first) for first in (1000, 0)
    )
    assert {c.seed for c in cells(pilot, METHODS, TASKS)} == {1000}
    more = headline_cells(pilot, METHODS, TASKS, {("math", "a"): 1e-3})
    assert [cell.seed for cell in more] == [1001, 1002]
    ours = suite(learning_rate=[1e-3], seeds=1002)
    assert more[0].name in {c.name for c in cells(ours, METHODS, TASKS)}  # the seed alone tells
    assert not {c.name for c in cells(reported, METHODS, TASKS)} & {
        c.name for c in cells(pilot, METHODS, TASKS)
    }


def test_a_new_suite_takes_the_smallest_rate_within_a_standard_error_and_names_no_cell_by_it():
    sweep = {"learning_rate": [1e-3, 1e-2], "seeds": 2, "sweep_seeds": 1}
    new = suite(**sweep, headline_learning_rate="dev")
    dev = {("math", "a", 1e-3): [DevScore(0.7, 100)], ("math", "a", 1e-2): [DevScore(0.73, 100)]}
    assert headline_rates(new, dev) == {("math", "a"): 1e-3}
    old = suite(**sweep, headline_learning_rate="dev", headline_rule="best")
    assert headline_rates(old, dev) == {("math", "a"): 1e-2}
    assert [c.name for c in cells(new, METHODS, TASKS)] == [
        c.name for c in cells(old, METHODS, TASKS)
    ]


def test_sweep_and_headline_cells_keep_their_names_when_the_grid_around_them_changes():
    """So a suite can be widened, and what is sealed stays sealed."""
    narrow = suite(learning_rate=[1e-3])
    wide = suite(learning_rate=[1e-4, 1e-3], seeds=2, sweep_seeds=1, headline_learning_rate="dev")
    assert {c.name for c in cells(narrow, METHODS, TASKS)} <= {
        c.name for c in cells(wide, METHODS, TASKS)
    }


def test_a_task_of_its_own_settings_changes_its_cells_and_no_others():
    plain = {c.name for c in cells(suite(batch_size=32), METHODS, TASKS)}
    own = cells(suite(batch_size=32, task_settings={"lake": {"batch_size": 8}}), METHODS, TASKS)
    assert {c.task for c in own if c.name not in plain} == {"lake"}
    assert {c.config["suite"]["batch_size"] for c in own if c.task == "lake"} == {8}


def test_task_settings_name_a_task_of_the_suite_and_a_setting_of_a_task():
    with pytest.raises(ConfigError, match="the suite has no such task"):
        suite(task_settings={"sea": {"batch_size": 8}})
    with pytest.raises(ConfigError, match="learning_rate: a task cannot set this"):
        suite(task_settings={"lake": {"learning_rate": 1.0}})
