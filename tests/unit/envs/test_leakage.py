"""What a response without context leaks of it, by hand."""

import pytest
from toy import Toy

from opcd_bench.envs.leakage import LENGTH, Told, grams
from opcd_bench.envs.task import Context, Contexts

CONTEXT = "Rule one: op@ means that you add both numbers. Walk left when the lake is cold."


def turn(reply, prompt="What is 3 op@ 4?"):
    return {"messages": [{"role": "user", "content": prompt}], "reply": reply}


@pytest.mark.parametrize(
    "reply",
    ["According to the context, it is 7.", "The hint tells me so.", "as the rules above say: 7",
     "- EXPERIENCE ITEM: add", "GIVEN LESSONS LIKE THAT", "your instructions say it"],
)  # fmt: skip
def test_a_response_that_speaks_of_a_context_mentions_it(reply):
    assert Told((CONTEXT,)).leak([turn(reply)]).mentions


@pytest.mark.parametrize(
    "reply", ["Answer: 7", "The rules of chess are many.", "In context learning is a field.", ""]
)
def test_a_response_that_does_not_is_left_alone(reply):
    assert not Told((CONTEXT,)).leak([turn(reply)]).mentions


def test_a_tasks_own_patterns_are_looked_for_too():
    class Own(Toy):
        leak_patterns = (r"\brule one\b",)

    told = Told.from_json(Told.of(Own()).to_json())
    assert told.leak([turn("By RULE ONE it is 7.")]).mentions
    assert not Told.of(Toy()).leak([turn("By rule one it is 7.")]).mentions


def test_copied_words_are_counted_in_grams_of_four():
    told = Told((CONTEXT,))
    assert grams("One, two; THREE four five") == [
        ("one", "two", "three", "four"), ("two", "three", "four", "five"),
    ]  # fmt: skip
    found = told.leak([turn("here you add both numbers gladly")])  # 3 grams, one of the context
    assert found.copied == pytest.approx(1 / 3)
    assert told.leak([turn("seven it is")]).copied is None
    assert told.leak([turn(CONTEXT)]).copied == 1.0
    assert LENGTH == 4


def test_words_of_the_prompt_are_not_copied_from_the_context():
    told = Told((CONTEXT,))
    prompt = "Walk left when the lake is cold, they say."
    assert told.leak([turn("walk left when the lake is cold", prompt)]).copied == 0.0
    own = {"role": "assistant", "content": CONTEXT}
    later = {"messages": [own, {"role": "user", "content": "go on"}], "reply": CONTEXT}
    assert told.leak([later]).copied == 1.0, "what it wrote itself is no prompt"


def test_every_context_of_a_pool_is_looked_for():
    pool = Contexts((Context("aa bb cc dd"), Context("ee ff gg hh")))
    told = Told.of(Toy().telling(pool))
    assert told.leak([turn("ee ff gg hh")]).copied == 1.0
