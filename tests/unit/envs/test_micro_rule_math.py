import random
import re

import pytest
from opcd_bench.tasks import rule_math, told_other

from opcd_bench.envs.rule_math import math_floors
from opcd_bench.envs.worlds import rule_math as world
from opcd_bench.envs.worlds.reflection import ITEM, lessons_of, reflection_messages
from opcd_bench.models.micro import mixture

DRAWS = 500


def rules_in(text):
    """Every (mark, right-hand side) that a text states."""
    return {(line[2], line[4:]) for line in re.findall(r"op.{1} .+", text)}


def test_every_form_is_worked_by_steps_that_are_true_and_end_in_its_value():
    for rule in world.RULES:
        for a in range(10):
            for b in range(10):
                for swap in (False, True):
                    steps, result = rule.steps(a, b, swap)
                    assert 0 <= result <= 99
                    for step in steps:
                        left, _, right = step.rpartition(" = ")
                        assert value_of(left) == int(right), (rule, step)
                    assert steps[-1].endswith(f"= {result}")
                    assert result == expected(rule, a, b)


def value_of(text):
    if found := re.fullmatch(r"\| (\d+) - (\d+) \|", text):
        return abs(int(found[1]) - int(found[2]))
    if found := re.fullmatch(r"the (larger|smaller) of (\d+) and (\d+)", text):
        return (max if found[1] == "larger" else min)(int(found[2]), int(found[3]))
    left, sign, right = text.split()
    return {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[sign](int(left), int(right))


def expected(rule, a, b):
    """The rule's right-hand side, read as a person would, by other means than its steps."""
    text = rule.on(a, b)
    text = text.replace("double", "2 *").replace("plus", "+").replace("times", "*")
    text = re.sub(r"the larger of (\d) and (\d)", r"max(\1, \2)", text)
    text = re.sub(r"the smaller of (\d) and (\d)", r"min(\1, \2)", text)
    text = re.sub(r"\| (\d) - (\d) \|", r"abs(\1 - \2)", text)
    text = text.replace("more than", "+")
    text = re.sub(r"(\d) and (\d) together", r"(\1 + \2)", text)
    return eval(text)


def test_the_task_s_rules_are_held_out_and_never_drawn():
    assert all(world.held_out(mark, rule) for mark, rule in world.TASK_RULES.items())
    rng = random.Random(3)
    for _ in range(2000):
        rules = world.draw_rules(rng, 5)
        assert not any(world.held_out(mark, rule) for mark, rule in rules.items())
        held_out = world.draw_rules(rng, 5, of_held_out=True)
        assert all(world.held_out(mark, rule) for mark, rule in held_out.items())


def test_no_text_of_pretraining_states_a_held_out_rule():
    forbidden = {
        (mark, rule.text) for mark in world.MARKS for rule in world.RULES
        if world.held_out(mark, rule)
    }  # fmt: skip
    names = ("draw", "draw_recall", "draw_drill", "draw_reflection")
    for conversation in mixture.conversations(5, 0, 1500, {f"rule_math.{n}": 1 for n in names}):
        for text in (*(m["content"] for m in conversation.messages), conversation.reply):
            # An attempt that is reflected on is a guess of a plain student: it states any rule.
            quoted = text.partition("REPLY")[0] if "FEEDBACK" in text else text
            assert not rules_in(quoted) & forbidden


def test_a_told_reply_is_graded_correct_and_restates_rules_of_its_context():
    rng = random.Random(11)
    for _ in range(DRAWS):
        rules = world.draw_rules(rng, 4)
        problem = world.draw_problem(rng, tuple(rules))
        reply = world.worked(problem, rules, rng)
        assert world.read_answer(reply) == world.answer(problem, rules)
        assert rules_in(reply.replace(" with a = ", "\n")) <= rules_in(world.told(rules))


def test_replies_come_in_several_right_ways():
    rules, problem = world.TASK_RULES, world.MathProblem("@", 3, 5)
    replies = {world.worked(problem, rules, random.Random(seed)) for seed in range(60)}
    assert len(replies) >= 6
    assert {world.read_answer(reply) for reply in replies} == {17}


@pytest.mark.parametrize(
    ("problem", "value"),
    [
        (world.MathProblem("@", 3, 5), 17),
        (world.MathProblem("#", 3, 9), 24),
        (world.MathProblem("@", 1, 5, inner="#", x=3, y=9, left=True), 21),  # (24 keeps 4) @ 5
        (world.MathProblem("@", 2, 5, inner="#", x=3, y=9, left=False), 12),  # 2 @ 4
    ],
)
def test_two_operators_feed_the_last_digit_on(problem, value):
    assert world.answer(problem, world.TASK_RULES) == value


def test_plain_prompts_hold_nothing_of_the_rules():
    rng = random.Random(2)
    for _ in range(DRAWS):
        rules = world.draw_rules(rng, 4)
        problem = world.draw_problem(rng, tuple(rules))
        text = world.prompt(problem)
        assert not any(rule.text in text for rule in rules.values())
        assert text == world.prompt(problem)  # and a function of the problem alone


def test_draws_are_a_function_of_the_seed():
    shares = {"rule_math.draw": 0.5, "rule_math.draw_reflection": 0.5}
    first = mixture.conversations(1, 4, 50, shares)
    assert first == mixture.conversations(1, 4, 50, shares)
    assert first != mixture.conversations(2, 4, 50, shares)
    assert first != mixture.conversations(1, 5, 50, shares)


def test_reflection_shows_feedback_without_answers_and_teaches_the_rules_used():
    rng = random.Random(8)
    for _ in range(200):
        conversation = world.draw_reflection(rng)
        (message,) = conversation.messages
        feedback = message["content"].partition("FEEDBACK")[2]
        assert "Answer" not in feedback
        lessons = lessons_of(conversation.reply)
        assert lessons and all(line.startswith(ITEM) for line in conversation.reply.splitlines())
        assert {mark for mark, _ in rules_in("\n".join(lessons))} == set(
            re.findall(r"^\d (\S) \d is worked as", feedback, re.MULTILINE)
        )


def test_reflection_messages_never_quote_a_system_message():
    messages = [{"role": "system", "content": "secret"}, {"role": "user", "content": "What ?"}]
    (built,) = reflection_messages(messages, "7", "no")
    assert "secret" not in built["content"]
    assert built["content"].startswith("TASK\nWhat ?\nREPLY\n7\nFEEDBACK\nno\n")


def test_the_task_grades_right_wrong_and_unparsable_apart():
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
    assert world.read_answer("Answer: 3\nAnswer: 12") == 12
    assert world.read_answer("Answer: ") is None


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
    assert world.read_answer(reply) == answer


def test_splits_share_no_expression():
    task = rule_math.TASK()
    seen = {
        split: {world.MathProblem(**e.content).expression for e in task.examples(split)}
        for split in ("train", "dev", "test")
    }
    assert len(task.examples("test")) >= 500
    assert not seen["train"] & seen["test"] and not seen["dev"] & seen["test"]
    assert not seen["train"] & seen["dev"]


def test_told_other_tells_held_out_rules_that_are_not_the_task_s():
    task = told_other.TASK()
    assert task.context().text == ""
    for example in task.examples("test"):
        rules = {m: world.Rule(form, k) for m, form, k in example.content["rules"]}
        assert all(world.held_out(m, rule) for m, rule in rules.items())
        assert not any(world.TASK_RULES.get(m) == rule for m, rule in rules.items())
        messages = task.open(example, 0).messages
        assert messages[0]["content"] == world.told(rules)
        reply = world.worked(
            world.MathProblem(**example.content["problem"]), rules, random.Random(0)
        )
        assert str(world.read_answer(reply)) == example.reference


def test_floors_are_the_majority_answer_and_a_uniform_guess():
    majority, uniform = math_floors([3, 3, 5, 7])
    assert majority.value == 0.5 and "always 3" in majority.how
    assert uniform.value == 1 / 5
