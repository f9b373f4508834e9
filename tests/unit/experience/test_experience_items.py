"""Lessons out of a reply, and which of them a context of limited size keeps."""

import pytest

from opcd_bench.errors import DataError
from opcd_bench.experience.items import accumulated, consensus, items_of


def words(items):
    """A measure as simple as can be: words, and two for the heading."""
    return 2 + sum(len(item.split()) for item in items)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("- EXPERIENCE ITEM: op@ 4 * a + b\n- EXPERIENCE ITEM: b", ["op@ 4 * a + b", "b"]),
        ("Sure!\n\n  - EXPERIENCE ITEM:  two   blanks \nmore words", ["two blanks"]),
        ("EXPERIENCE ITEM: no dash\n* EXPERIENCE ITEM: a star", []),
        ("- EXPERIENCE ITEM:\n- EXPERIENCE ITEM: next", ["next"]),
        ("<think>\n- EXPERIENCE ITEM: a draft\n</think>\n- EXPERIENCE ITEM: final", ["final"]),
        ("<think>\n- EXPERIENCE ITEM: never ended", []),
        ("- EXPERIENCE ITEM: a\x00 b\ufeff\x07", ["a b"]),
        ("- EXPERIENCE ITEM: opened by the template\n</think>\n- EXPERIENCE ITEM: b", ["b"]),
        ("", []),
    ],
)
def test_lessons_are_the_marked_lines_outside_of_thinking(text, items):
    assert items_of(text, "stop") == items


def test_a_reply_that_was_cut_loses_its_last_line_which_may_be_half_a_lesson():
    text = "- EXPERIENCE ITEM: whole\n- EXPERIENCE ITEM: hal"
    assert items_of(text, "length") == ["whole"]
    assert items_of("- EXPERIENCE ITEM: hal", "length") == []


@pytest.mark.parametrize(
    ("limit", "kept"),
    [(3, ("d",)), (4, ("d",)), (5, ("c c", "d")), (7, ("c c", "d")), (8, ("b b b", "c c", "d")),
     (9, ("a", "b b b", "c c", "d"))],
)  # fmt: skip
def test_the_newest_whole_items_are_kept_in_the_order_in_which_they_came(limit, kept):
    assert accumulated(["a", "b b b", "c c", "d"], "newest", limit, words) == kept


def test_keeping_stops_at_the_first_that_does_not_fit_and_takes_no_older_one_instead():
    """Else a context would hold what is old because it is short."""
    assert accumulated(["a", "b b b b", "c"], "newest", 6, words) == ("c",)


def test_an_item_that_no_context_could_hold_is_passed_over():
    assert accumulated(["a", "b " * 50, "c"], "newest", 5, words) == ("a", "c")


def test_a_repeated_item_is_kept_where_it_was_said_last_or_as_often_as_it_was_said():
    said = ["a", "b", "a", "c"]
    assert accumulated(said, "newest", 99, words) == ("b", "a", "c")
    assert accumulated(said, "newest-with-repeats", 99, words) == ("a", "b", "a", "c")
    assert accumulated(said, "newest-with-repeats", 4, words) == ("a", "c")


def test_consensus_keeps_what_was_said_most_often_of_each_subject_and_the_first_of_equals():
    said = ["op@ wrong", "op@ right", "hole is &.", "op@ right", "hole is %."]
    assert consensus(said) == ["op@ right", "hole is &."]
    assert accumulated(said, "consensus", 99, words) == ("op@ right", "hole is &.")


def test_a_limit_below_every_item_says_what_to_type_and_no_item_at_all_is_none():
    with pytest.raises(DataError, match="--max-context-tokens 4"):
        accumulated(["a a a", "b b"], "newest", 3, words)
    assert accumulated([], "newest", 3, words) == ()
