import random
import re
from dataclasses import asdict

import pytest
from opcd_bench.tasks import rule_choice

from opcd_bench.envs.worlds import choice as world
from opcd_bench.envs.worlds.choice import TASK_PICKS, Choice

ASKED = Choice(
    "dax",
    (("ring", "green"), ("star", "red"), ("wave", "white"), ("moon", "blue"), ("leaf", "black")),
)


def test_every_mark_picks_the_colour_beside_it():
    right = {"ring": "green", "star": "red", "wave": "white", "moon": "blue", "leaf": "black"}
    assert set(right) == set(world.MARKS)
    for mark, colour in right.items():
        assert world.answer(ASKED, {"dax": mark}) == colour


@pytest.mark.parametrize("draw", [world.draw_many, world.draw_spelled])
def test_a_question_with_one_row_of_options_is_answered_line_by_line(draw):
    rng = random.Random(1)
    for _ in range(50):
        said = draw(rng)
        rules = dict(re.findall(r"#(\w+) (\w+)", said.messages[0]["content"]))
        options, _, asked = said.messages[-1]["content"].partition(" . Pick by ")
        names = asked.removeprefix("each\n").removesuffix(" .").splitlines()
        colours = dict(one.split() for one in options.split(" , "))
        assert said.reply.splitlines() == [colours[rules.get(name, name)] for name in names]


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
    wrong = next(c for c in world.COLOURS if c != example.reference)
    scores = []
    for reply in (example.reference, f"{example.reference}.", wrong, " ".join(world.COLOURS), "I"):
        episode = task.open(example, 0)
        assert episode.step(reply).done
        scores.append(episode.grade().score)
    assert scores == [1.0, 1.0, 0.0, 0.0, None]


def test_the_task_s_hint_holds_the_rule_and_the_answer():
    for example in rule_choice.TASK().examples("test")[:50]:
        rule, _, colour = example.hint.partition("\n")
        assert rule in rule_choice.TASK().context().text and colour == example.reference


def test_the_floors_are_near_one_in_five():
    majority, uniform = rule_choice.TASK().floors("test")
    assert uniform.value == 0.2 and 0.2 <= majority.value < 0.26
