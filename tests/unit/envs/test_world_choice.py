import random
import re
from dataclasses import asdict

import pytest
from opcd_bench.tasks import rule_choice

from opcd_bench.envs.worlds import choice as world
from opcd_bench.envs.worlds.choice import TASK_PICKS, Choice

ASKED = Choice("dax", (("red", "2"), ("white", "8"), ("blue", "9"), ("green", "3"), ("black", "5")))


@pytest.mark.parametrize("number", world.NUMBERS)
def test_the_answer_is_the_rule_again(number):
    assert world.answer(ASKED, {"dax": number, "mip": "2"}) == f"#dax {number}"


def test_a_question_about_several_names_is_answered_line_by_line():
    rng = random.Random(1)
    for _ in range(50):
        said = world.draw_many(rng)
        rules = dict(re.findall(r"#(\w+) (\d)", said.messages[0]["content"]))
        names = said.messages[-1]["content"].partition(" . Pick by each of ")[2].split()
        assert said.reply.splitlines() == [f"#{name} {rules[name]}" for name in names]


def test_no_context_of_pretraining_is_like_the_task_s():
    rng = random.Random(0)
    for _ in range(3000):
        picks = world.draw_picks(rng, 24)
        assert sum(picks.get(name) == pick for name, pick in TASK_PICKS.items()) <= 3


def test_choices_come_back_from_their_content():
    content = {**asdict(ASKED), "options": [list(one) for one in ASKED.options]}
    assert world.choice_of(content) == ASKED


def test_the_task_grades_right_wrong_several_and_none_apart():
    task = rule_choice.TASK()
    example = task.examples("test")[0]
    wrong = example.reference[:-1] + next(n for n in "25" if n != example.reference[-1])
    scores = []
    for reply in (example.reference, f"{example.reference}.", wrong, " ".join(world.NUMBERS), "I"):
        episode = task.open(example, 0)
        assert episode.step(reply).done
        scores.append(episode.grade().score)
    assert scores == [1.0, 1.0, 0.0, 0.0, None]


def test_the_task_s_hint_is_its_rule():
    for example in rule_choice.TASK().examples("test")[:50]:
        assert example.hint == example.reference in rule_choice.TASK().context().text


def test_the_floors_are_near_one_in_five():
    majority, uniform = rule_choice.TASK().floors(rule_choice.TASK().examples("test"))
    assert uniform.value == 0.2 and 0.2 <= majority.value < 0.26


def test_what_is_said_of_an_attempt_is_whether_it_was_right_and_not_the_answer():
    task = rule_choice.TASK()
    example = task.examples("train")[0]
    for reply, said in ((example.reference, "That is the"), ("0", "That is not the")):
        episode = task.open(example, 0)
        episode.step(reply)
        assert episode.feedback().startswith(said)
        assert example.reference.split()[-1] not in episode.feedback()
