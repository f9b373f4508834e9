"""What is read of an example, and which ceiling a method is measured against."""

import dataclasses

import pytest
from toy import Hinted, Toy

from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.method import STUDENT, TOLD_TEACHER, Method, Teacher, Writer
from opcd_bench.envs import readings
from opcd_bench.envs.task import Context, describe_task
from opcd_bench.errors import DataError
from opcd_bench.runner import registry


def described(writer=STUDENT, loss=None, **teacher):
    loss = loss or named("rkl_full")
    return Method("mine", "A test's.", "a test", writer, loss, Teacher(**teacher)).describe()


def test_each_example_is_told_its_own_text():
    task = Hinted()
    one, two = task.examples("test")[:2]
    for reads, words in (("hint", "hint {}"), ("reference", "The answer is ref {}.")):
        contexts = readings.telling(task, reads).contexts()
        for example in (one, two):
            wanted = words.format(example.id if reads == "hint" else example.content["word"])
            assert contexts.of("toy", 3, example.id).text == wanted
            assert readings.told(reads, task, example, 3) == contexts.of("toy", 3, example.id)
    contexts = readings.telling(task, "other_hint").contexts()
    assert contexts.of("toy", 3, two.id).text == f"hint {one.id}"
    last = task.examples("test")[-1]
    assert readings.told("other_hint", task, one, 3).text == f"hint {last.id}"
    assert readings.told("nothing", task, one, 0) is None
    assert readings.told("context", task, one, 0) == task.context()


def test_the_hint_of_another_is_never_the_own_one_though_neighbours_have_the_same():
    class Alike(Hinted):
        def examples(self, split):
            hints = ("a", "a", "b", "a")
            found = super().examples(split)[:4]
            return [dataclasses.replace(e, hint=h) for e, h in zip(found, hints, strict=True)]

    task = Alike()
    told = [readings.told("other_hint", task, one, 0).text for one in task.examples("train")]
    assert told == ["b", "b", "a", "b"]
    shipped = registry.task("rule_choice")
    for one in shipped.examples("train"):
        assert readings.told("other_hint", shipped, one, 0).text != one.hint


def test_where_all_hints_are_alike_it_is_the_one_before():
    class Same(Hinted):
        def examples(self, split):
            return [dataclasses.replace(one, hint="a") for one in super().examples(split)[:2]]

    one, two = Same().examples("train")
    assert readings.hint_lender(Same(), one).id == two.id


def test_what_is_read_is_part_of_what_stored_replies_are_known_by():
    task = Hinted()
    assert readings.telling(task, "context") is task
    kinds = [describe_task(readings.telling(task, reads)) for reads in readings.READS]
    assert len({one["context_hash"] for one in kinds}) == 4, "nothing is as the context"
    told = task.telling(readings.telling(task, "context").contexts())
    assert describe_task(told) == describe_task(task)


def test_a_text_stands_where_the_tasks_context_stands():
    class InUser(Hinted):
        def context(self):
            return Context("rules", "user")

    example = InUser().examples("train")[0]
    assert readings.told("hint", InUser(), example, 0) == Context(f"hint {example.id}", "user")


def test_an_example_without_what_is_read_is_named():
    example = Toy().examples("train")[0]
    with pytest.raises(DataError, match=f"example {example.id} has no hint"):
        readings.told("hint", Toy(), example, 0)
    assert readings.lacking("hint", Toy(), "train") == list(Toy().examples("train"))
    with pytest.raises(DataError, match="has no hint"):
        readings.told("other_hint", Toy(), example, 0)
    lacking = [readings.lacking(reads, Toy(), "train") for reads in ("hint", "other_hint")]
    assert lacking[0] == lacking[1]
    assert readings.lacking("context", Toy(), "train") == []
    assert readings.lacking("hint", Hinted(), "train") == []


@pytest.mark.parametrize(
    ("choices", "reads", "ceiling"),
    [
        ({}, "context", "ceiling"),
        ({"reads": "hint"}, "hint", "ceiling-hint"),
        ({"weights": "larger"}, "context", "ceiling-larger"),
        ({"weights": "larger", "reads": "reference"}, "reference", "ceiling-larger-reference"),
        ({"weights": "larger", "reads": "nothing"}, "context", "ceiling-larger"),
        ({"reads": "nothing"}, "context", "ceiling"),
        ({"writer": Writer("teacher", 1.0, reads="hint"), "loss": named("nll")}, "hint",
         "ceiling-hint"),
        ({"writer": TOLD_TEACHER, "loss": named("nll"), "reads": "hint"}, "context", "ceiling"),
        ({"writer": Writer("teacher", 1.0, reads="hint"), "loss": named("fkl_full")}, "context",
         "ceiling"),
    ],
)  # fmt: skip
def test_a_method_is_measured_against_what_its_teacher_reads(choices, reads, ceiling):
    assert readings.read_by(described(**choices)) == reads
    assert readings.ceiling_of(described(**choices)) == ceiling


def test_teachers_are_called_by_their_weights_and_what_they_read():
    def name(weights, reads="context", **adapted):
        return readings.teacher_name({"weights": weights, "reads": reads, **adapted})

    assert name("initial") == name("live") == name("ema") == "in-context"
    assert name("initial", "hint") == "with-hint"
    assert name("initial", "other_hint") == "with-other-hint"
    assert name("initial", "nothing") is None
    assert name("larger") == "larger"
    assert name("larger", "nothing") == "larger-no-context"
    assert name("larger", "reference") == "larger-reference"
    assert name("adapted", by="grpo", by_reads="nothing") == "adapted-grpo"
    told = name("adapted", "nothing", by="grpo", by_reads="context")
    assert told == "adapted-grpo-with-context-no-context"
