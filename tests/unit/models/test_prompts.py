"""Rendered prompts are kept as far as their ids are few, the latest of them."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
from fixtures import CHATML, tiny_tokenizer

from opcd_bench.envs.task import Context
from opcd_bench.models import prompts


def asked(number: int, context: str = "") -> tuple[int, ...]:
    messages = [{"role": "user", "content": f"question {number:03}"}]
    if context:
        return prompts.told_ids(TOKENIZER, messages, Context(context))
    return prompts.prompt_ids(TOKENIZER, messages)


TOKENIZER = tiny_tokenizer()


@pytest.fixture
def known():
    prompts._RENDERED.pop(TOKENIZER, None)
    yield lambda: prompts._RENDERED[TOKENIZER]
    prompts._RENDERED.pop(TOKENIZER, None)


def ids(known) -> int:
    return sum(map(len, known()._ids.values()))


def test_long_contexts_leave_few_prompts_and_short_prompts_are_many(known, monkeypatch):
    """50,000 prompts were kept, however long: 19 GB where a context has 16,000 tokens."""
    monkeypatch.setattr(prompts, "_KEPT", 20_000)
    for number in range(100):
        asked(number, "rule " * 300)
        assert ids(known) <= 20_000
    assert ids(known) > 17_000 and len(known()._ids) < 20
    for number in range(100):
        asked(number)
    first, last = asked(0), asked(99)
    assert len(known()._ids) >= 100
    assert asked(0) is first and asked(99) is last


def test_the_oldest_go_first_and_are_rendered_again(known, monkeypatch):
    size = len(asked(0)) + prompts._ENTRY
    monkeypatch.setattr(prompts, "_KEPT", 3 * size)
    first, *others = [asked(number) for number in range(3)]
    fourth = asked(3)
    assert [asked(1), asked(2)] == others and asked(1) is others[0] and asked(2) is others[1]
    assert asked(3) is fourth
    assert asked(0) == first and asked(0) is not first
    assert asked(2) is others[1] and asked(1) is not others[0], "the second was the oldest then"


def test_a_prompt_longer_than_all_that_is_kept_is_rendered(known, monkeypatch):
    monkeypatch.setattr(prompts, "_KEPT", 10)
    assert asked(1) == asked(1) and not known()._ids and not known()._size


def test_no_prompt_holds_a_copy_of_the_template(known, monkeypatch):
    monkeypatch.setattr(TOKENIZER, "chat_template", CHATML + "{# " + "x" * 20_000 + " #}")
    asked(0)
    tracemalloc.start()
    try:
        for number in range(1, 51):
            asked(number)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 50 * 10_000


def test_threads_that_ask_for_the_same_count_it_once(known, monkeypatch):
    monkeypatch.setattr(prompts, "_KEPT", 2_000)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(asked, [i % 60 for i in range(1_200)]))
    assert found == [asked(i % 60) for i in range(1_200)]
    kept = known()._ids.values()
    assert known()._size == sum(len(one) + prompts._ENTRY for one in kept) <= 2_000
