"""House styles: one verdict a reply, and no credit for what is no answer."""

import pytest
from opcd_bench.tasks.house_style import HouseStyleSpanish


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Puedes guardar las zanahorias en la nevera durante dos semanas.", 1.0),
        ("You can keep carrots in the fridge for two weeks.", 0.0),
        ("1 2 3 4 5", 0.0),
        ("Sí.", None),
        ("", None),
    ],
)
def test_a_response_in_the_language_of_the_house_is_right(reply, score):
    task = HouseStyleSpanish()
    episode = task.open(task.examples("test")[0], 0)
    episode.step(reply)
    assert episode.grade().score == score


def test_another_rule_in_its_place_is_what_counts_when_contradicted():
    task = HouseStyleSpanish()
    against = next(one for one in task.probes() if one.name == "contradicted")
    episode = task.open(against.examples[0], 0)
    episode.step("Vous pouvez garder les carottes au frais pendant deux semaines.")
    assert episode.grade().score == 1.0
