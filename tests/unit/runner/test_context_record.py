"""What a suite keeps of its contexts: what they say, and how long they are."""

import dataclasses
import types

import pandas as pd
import pytest
from fixtures import tiny_model, tiny_tokenizer
from toy import Toy

from opcd_bench.envs.task import Context, Contexts
from opcd_bench.models.loaded import PromptFormat
from opcd_bench.models.loading import assemble
from opcd_bench.models.prompts import prompt_ids, told_ids
from opcd_bench.report.analysis.contexts import stored
from opcd_bench.runner import context_record
from opcd_bench.store.suite_dir import SuiteDir


@pytest.fixture(scope="module")
def models():
    """What the record asks of a suite's models."""
    loaded = assemble("m", tiny_model(), tiny_tokenizer())
    suite = types.SimpleNamespace(teacher_model=None)
    return types.SimpleNamespace(initial=loaded, suite=suite)


def test_a_context_is_kept_word_for_word_under_the_hash_that_runs_have(models):
    task = Toy()
    found = context_record.record({"toy": task}, models)["contexts"]["toy"]
    ((key, one),) = found.items()
    assert key == task.contexts().hash
    (context,) = task.contexts().pool
    assert one["pool"] == [{"placement": context.placement, "text": context.text}]


def test_its_length_is_what_it_adds_to_the_prompts_of_train(models):
    task = Toy()
    one = context_record.record({"toy": task}, models)["contexts"]["toy"][task.contexts().hash]
    (context,) = task.contexts().pool
    example = task.examples("train")[0]
    messages = [dict(message) for message in task.open(example, 0).messages]
    without = len(prompt_ids(models.initial, messages))
    added = len(told_ids(models.initial, messages, context)) - without
    assert added > 0
    assert one["prompt_tokens"] == pytest.approx(without, rel=0.5)
    assert one["context_tokens"] == pytest.approx(added)


def test_a_pool_is_kept_whole(models):
    pool = Contexts((Context("One."), Context("Two.")))
    task = Toy().telling(pool)
    found = context_record.record({"toy": task}, models)["contexts"]["toy"]
    assert [one["text"] for one in found[pool.hash]["pool"]] == [one.text for one in pool.pool]


def test_how_much_of_a_context_is_false_is_kept_where_its_author_says(models):
    part_false = Contexts((Context("One.", false_share=0.25),))
    found = context_record.record({"toy": Toy().telling(part_false)}, models)
    assert found["contexts"]["toy"][part_false.hash]["pool"][0]["false_share"] == 0.25
    cells = pd.DataFrame({"task": ["toy"], "settings": [{"task.context_hash": part_false.hash}]})
    assert stored(found, cells)["toy"].contexts.pool[0].false_share == 0.25


@pytest.mark.parametrize("named", [False, True])
def test_how_a_pool_is_drawn_and_whether_prompts_name_it_is_kept(models, named):
    pool = Contexts((Context("One."), Context("Two.")), by_example=True, named=named)
    found = context_record.record({"toy": Toy().telling(pool)}, models)
    assert found["contexts"]["toy"][pool.hash].get("named", False) is named
    cells = pd.DataFrame({"task": ["toy"], "settings": [{"task.context_hash": pool.hash}]})
    assert stored(found, cells)["toy"].contexts == pool


def test_the_shape_of_a_model_is_what_its_arithmetic_depends_on(models):
    shape = context_record.record({}, models)["model_shapes"]["student"]
    config = models.initial.model.config
    assert shape["layers"] == config.num_hidden_layers
    assert shape["parameters"] == models.initial.model.num_parameters()
    assert shape["attention_width"] > 0


def test_a_model_in_another_process_has_no_shape(models):
    fields = [field.name for field in dataclasses.fields(PromptFormat)]
    served = PromptFormat(**{name: getattr(models.initial, name) for name in fields})
    both = types.SimpleNamespace(
        initial=models.initial, larger=lambda: served,
        suite=types.SimpleNamespace(teacher_model="larger"),
    )  # fmt: skip
    assert set(context_record.record({}, both)["model_shapes"]) == {"student"}


def test_the_same_suite_run_again_has_the_same_record(models, tmp_path):
    suite_dir = SuiteDir(tmp_path / "a")
    found = context_record.record({"toy": Toy()}, models)
    once = suite_dir.merge({"methods": [], "tasks": [], **found})
    assert suite_dir.merge(context_record.record({"toy": Toy()}, models)) == once
