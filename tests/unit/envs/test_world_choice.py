import random
from dataclasses import asdict

from opcd_bench.tasks import rule_choice

from opcd_bench.envs.worlds import choice as world
from opcd_bench.envs.worlds.choice import TASK_PICKS, Choice

ASKED = Choice("dax", (("red", 7), ("blue", 3), ("green", 9), ("white", 5), ("black", 2)))


def test_every_pick_picks_what_its_word_says():
    right = {
        "first": "red", "second": "blue", "third": "green", "fourth": "white", "last": "black",
        "largest": "green", "smallest": "black",
    }  # fmt: skip
    assert set(right) == set(world.PICKS)
    for pick, colour in right.items():
        assert world.answer(ASKED, {"dax": pick}) == colour


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
