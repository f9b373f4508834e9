"""The tasks over made-up operators: grading, splits, hints, and what each example is told."""

import random

import pytest
from opcd_bench.tasks import rule_math, told_other

from opcd_bench.envs.rule_math import math_floors
from opcd_bench.envs.worlds import chains, operators
from opcd_bench.envs.worlds.operators import TASK_RULES, Rule
from opcd_bench.envs.worlds.reflection import reflection_messages

SPLITS = ("train", "dev", "test")


def test_right_wrong_and_unparsable_are_graded_apart():
    task = rule_math.TASK()
    example = task.examples("test")[0]
    scores = []
    for reply in (f"4 * 3 = 12\nAnswer: {example.reference}", "Answer: 100", "I do not know"):
        episode = task.open(example, 0)
        assert episode.step(reply).done
        scores.append(episode.grade().score)
    assert scores == [1.0, 0.0, None]
    assert "is worked as" in task.open(example, 0).feedback()


def test_the_last_answer_of_a_reply_counts():
    assert chains.read_answer("Answer: 3\nAnswer: 12") == 12
    assert chains.read_answer("Answer: ") is None


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Answer: -5", -5),
        ("Answer: \u22125", -5),
        ("Answer: - 5", -5),
        ("**Answer**: 12", 12),
        ("**Answer:** 12", 12),
        ("Answer：12", 12),
        ("Answer: 12.", 12),
        ("Answer: 12, since", 12),
        # a number of which this would be a part
        ("Answer: 12.5", None),
        ("Answer: 1,080", None),
        ("Answer: 1e5", None),
        ("Answer: " + "9" * 5000, None),
        ("Answer: 5\nAnswer: " + "9" * 5000, None),
        ("Answer:" * 20_000, None),
    ],
)
def test_an_answer_is_read_as_people_write_it_and_whole(reply, answer):
    assert chains.read_answer(reply) == answer


def test_splits_share_no_expression():
    task = rule_math.TASK()
    seen = {
        split: {chains.chain_of(e.content).expression for e in task.examples(split)}
        for split in SPLITS
    }
    assert len(task.examples("test")) >= 500
    assert not seen["train"] & seen["test"] and not seen["dev"] & seen["test"]
    assert not seen["train"] & seen["dev"]


def test_the_context_states_every_rule_that_a_problem_uses():
    task = rule_math.TASK()
    lines = task.context().text.splitlines()
    for split in SPLITS:
        for example in task.examples(split)[:100]:
            for name, _ in chains.chain_of(example.content).steps:
                assert operators.rule_line(name, TASK_RULES[name].text) in lines


def test_a_hint_is_the_worked_solution_and_always_the_same():
    task = rule_math.TASK()
    hints = [example.hint for example in task.examples("dev")]
    rule_math._examples.cache_clear()
    assert [example.hint for example in task.examples("dev")] == hints
    for example in task.examples("dev"):
        assert str(chains.read_answer(example.hint)) == example.reference


def test_told_other_tells_held_out_rules_that_are_not_the_tasks():
    task = told_other.TASK()
    assert task.context().text == ""
    for example in task.examples("test"):
        rules = {m: Rule(form, k) for m, form, k in example.content["rules"]}
        assert all(operators.held_out(m, rule) for m, rule in rules.items())
        assert not any(TASK_RULES.get(m) == rule for m, rule in rules.items())
        messages = task.open(example, 0).messages
        assert messages[0]["content"] == operators.told(operators.rule_lines(rules))
        chain = chains.chain_of(example.content["problem"])
        reply = chains.worked(chain, rules, random.Random(0))
        assert str(chains.read_answer(reply)) == example.reference


def test_reflection_messages_never_quote_a_system_message():
    messages = [{"role": "system", "content": "secret"}, {"role": "user", "content": "What ?"}]
    (built,) = reflection_messages(messages, "7", "no")
    assert "secret" not in built["content"]
    assert built["content"].startswith("TASK\nWhat ?\nREPLY\n7\nFEEDBACK\nno\n")


def test_floors_are_the_majority_answer_and_a_uniform_guess():
    majority, uniform = math_floors([3, 3, 5, 7])
    assert majority.value == 0.5 and "always 3" in majority.how
    assert uniform.value == 1 / 5
