import random
import re
from dataclasses import asdict

import pytest

from opcd_bench.envs.worlds import chain_drills, chain_talk, chains, operators
from opcd_bench.envs.worlds.chains import Chain
from opcd_bench.envs.worlds.operators import FORMS, Rule
from opcd_bench.envs.worlds.reflection import lessons_of
from opcd_bench.models.micro import leak, mixture

RULES = [Rule(name, k) for name, form in FORMS.items() for k in form.constants]
TOLD = {"dax": Rule("left", 3), "kel": Rule("gap", 2), "mip": Rule("smaller_times", 4)}


def value_of(text):
    text = re.sub(r"larger of (\d+) and (\d+)", r"max(\1, \2)", text)
    text = re.sub(r"smaller of (\d+) and (\d+)", r"min(\1, \2)", text)
    return eval(re.sub(r"\| (\d+) - (\d+) \|", r"abs(\1 - \2)", text))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.form}-{rule.k}")
def test_every_rule_is_worked_by_steps_that_are_true_and_end_in_its_value(rule):
    for a in range(10):
        for b in range(10):
            for swap in (False, True):
                steps, result = rule.steps(a, b, swap)
                assert 0 <= result <= 99 and result == value_of(rule.on(a, b))
                for step in steps:
                    left, _, right = step.rpartition(" = ")
                    assert value_of(left) == int(right), (rule, step)
                assert steps[-1].endswith(f"= {result}")


def test_a_chain_is_worked_from_the_left_and_keeps_last_digits():
    # 7 dax 5: 3 * 7 + 5 = 26 keeps 6; 6 kel 1: 2 + 5 = 7 keeps 7; 7 mip 2: 4 * 2 = 8
    chain = Chain(7, (("dax", 5), ("kel", 1), ("mip", 2)))
    assert chains.uses(chain, TOLD) == [("dax", 7, 5, 26), ("kel", 6, 1, 7), ("mip", 7, 2, 8)]
    assert chains.answer(chain, TOLD) == 8
    assert chains.feedback(chain, TOLD).splitlines()[0] == "7 dax 5 is worked as 3 * 7 + 5"
    assert "8" not in chains.feedback(chain, TOLD)


@pytest.mark.parametrize("style", chains.STYLES)
def test_every_style_states_the_rules_used_and_ends_with_the_answer(style):
    rng = random.Random(4)
    for _ in range(200):
        rules = operators.draw_rules(rng, 5)
        chain = chains.draw_chain(rng, tuple(rules), (1, 2, 3, 4))
        reply = chains.worked(chain, rules, rng, style)
        assert chains.read_answer(reply) == chains.answer(chain, rules)
        for name, _ in chain.steps:
            assert operators.rule_line(name, rules[name].text) in reply


def test_chains_come_back_from_their_content():
    rng = random.Random(0)
    for _ in range(50):
        chain = chains.draw_chain(rng, operators.NAMES, (1, 2, 3, 4), "Orr")
        content = {**asdict(chain), "steps": [list(step) for step in chain.steps]}
        assert chains.chain_of(content) == chain


def test_the_task_s_rules_are_held_out_and_never_drawn():
    rng = random.Random(3)
    for _ in range(1000):
        for is_held_out in (False, True):
            rules = operators.draw_rules(rng, 6, of_held_out=is_held_out)
            assert all(operators.held_out(n, r) == is_held_out for n, r in rules.items())
    assert len(operators.TASK_RULES) == 12
    assert all(operators.held_out(name, rule) for name, rule in operators.TASK_RULES.items())


def test_no_told_text_of_pretraining_states_a_held_out_rule():
    forbidden = {
        operators.rule_line(name, rule.text)
        for name in operators.NAMES
        for rule in RULES
        if operators.held_out(name, rule)
    }
    shares = {f"chain_talk.{n}": 1 for n in ("draw", "draw_few", "draw_some", "draw_plain",
              "draw_hint", "draw_rescue")} | {"chain_drills.draw_recall": 1}  # fmt: skip
    for drawn in mixture.conversations(5, 0, 1000, shares):
        for text in (*(m["content"] for m in drawn.messages), drawn.begun, drawn.reply):
            stated = re.findall(r"#[a-z]+ [^:\n]*", text)
            assert not {line.strip() for line in stated} & forbidden


def test_only_told_replies_speak_of_what_was_told():
    rng = random.Random(1)
    plain = [chain_talk.draw_plain(rng).reply for _ in range(300)]
    told = [chain_talk.draw(rng).reply for _ in range(300)]
    opening = chain_talk.BY["rules"]
    assert not any(opening in reply for reply in plain)
    assert 40 < sum(reply.startswith(opening) for reply in told) < 110


def test_a_hint_is_the_example_s_own_solution_and_an_answer_is_worded_as_teachers_read_it():
    rng = random.Random(2)
    kinds = set()
    for _ in range(300):
        drawn = chain_talk.draw_hint(rng)
        told, right = drawn.messages[0]["content"], chains.read_answer(drawn.reply)
        kinds.add(drawn.kind)
        if drawn.kind == "hint":
            assert chains.read_answer(told) == right
        elif drawn.kind == "answer":
            assert told == f"The answer is {right}."
    assert kinds == {"hint", "answer", "other_hint"}


def test_a_rescue_begins_with_a_rule_that_was_not_told_and_ends_right():
    rng = random.Random(6)
    for _ in range(300):
        drawn = chain_talk.draw_rescue(rng)
        told = drawn.messages[0]["content"]
        stated = re.findall(r"#[a-z]+ [^:\n]*[^:\n ]", drawn.begun)
        assert stated and stated[-1] not in re.split(r"\n|ITEM: ", told)
        assert drawn.reply.startswith(chain_talk.NO)
        for line in re.findall(r"#[a-z]+ [^:\n]*[^:\n ]", drawn.reply):
            assert line in told


def test_no_feature_of_a_prompt_predicts_its_rule():
    for found in (leak.of_chains(8000), leak.of_choices(8000)):
        assert found.informed < found.blind + 0.025, found
    hidden = [i % 3 for i in range(300)]  # the detector works: a feature that tells is found
    assert leak.guessable([{"x": value} for value in hidden], hidden).informed == 1.0


def test_reflection_teaches_the_rules_that_its_feedback_shows():
    rng = random.Random(8)
    for _ in range(200):
        drawn = chain_drills.draw_reflection(rng)
        feedback = drawn.messages[0]["content"].partition("FEEDBACK")[2]
        assert "Answer" not in feedback
        lessons = lessons_of(drawn.reply)
        assert {line.split()[0][1:] for line in lessons} == set(
            re.findall(r"^\d (\w+) \d is worked as", feedback, re.MULTILINE)
        )
