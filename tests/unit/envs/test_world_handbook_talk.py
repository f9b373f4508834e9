import random

from opcd_bench.envs.worlds import handbook, handbook_talk


def test_no_handbook_of_pretraining_holds_a_fact_of_the_task_s():
    rng = random.Random(0)
    own = set(handbook.facts(handbook.MOST, 1))
    for _ in range(500):
        facts = handbook_talk.draw_facts(rng, 24)
        assert not own & set(facts)
        assert len({(fact.relation, fact.value) for fact in facts}) == 24
        assert len({fact.thing for fact in facts}) == 24


def test_replies_name_the_value_that_the_handbook_tells():
    rng = random.Random(1)
    seen = set()
    for _ in range(600):
        drawn = handbook_talk.draw(rng)
        seen.add(drawn.kind)
        if drawn.kind != "handbook":
            continue
        named = [
            (kind, value)
            for kind in handbook.BY_NAME
            for value in handbook.named(kind, drawn.reply)
        ]
        text = " ".join(m["content"] for m in drawn.messages)
        assert named and all(value in text for _, value in named)
    assert seen == {"handbook", "handbook_reversed", "handbook_two", "handbook_unknown",
                    "handbook_plain"}  # fmt: skip


def test_what_a_handbook_does_not_say_is_said_to_be_unknown():
    assert all(handbook.says_unknown(text) for text in handbook_talk.UNKNOWN)
    assert handbook.says_unknown(handbook_talk.NO_IDEA)
