"""Splits are disjoint by normalised content, in an order that only content decides."""

import pytest

from opcd_bench.envs.data_files import Located
from opcd_bench.envs.data_splits import divided, fingerprint, normalised
from opcd_bench.envs.task import Example
from opcd_bench.errors import DataError, DataWarning

ALL = {"train": None, "dev": None, "test": None}


def texts(count, prefix="text"):
    return [f"{prefix} {n}" for n in range(count)]


def split(pools, group=None, **sizes):
    return divided("a set", pools, text=str, sizes={**ALL, **sizes}, group=group)


def test_contents_are_compared_without_case_white_space_and_form():
    assert normalised("  Ünder\u00a0the\n\nＢＯＸ ") == "ünder the box"
    assert normalised("Straße") == normalised("STRASSE")
    assert normalised("1,000") != normalised("1000")


def test_what_two_splits_have_stays_in_the_first_of_test_dev_and_train():
    found = split(
        {
            "train": ["a", "B ", "c", "D", "A"],
            "dev": ["b", "d", "e"],
            "test": ["d", "f", " F"],
        }
    )
    assert {name: sorted(of) for name, of in found.items()} == {
        "train": ["a", "c"],
        "dev": ["b", "e"],
        "test": ["d", "f"],
    }
    assert list(found) == ["train", "dev", "test"]


def test_the_order_follows_from_content_and_not_from_the_file():
    rows = texts(200)
    once = split({"train": rows}, dev=20, test=30)
    again = split({"train": rows[::-1] + rows}, dev=20, test=30)
    assert once == again
    assert once["train"] != sorted(once["train"], key=rows.index)
    assert [len(once[name]) for name in ("train", "dev", "test")] == [150, 20, 30]
    assert sorted(text for of in once.values() for text in of) == sorted(rows)
    assert once["test"][:3] == ["text 106", "text 110", "text 52"]


def test_two_sets_of_the_same_rows_are_in_different_orders():
    other = divided("another", {"train": texts(50)}, text=str, sizes={**ALL, "dev": 5, "test": 5})
    assert other["test"] != split({"train": texts(50)}, dev=5, test=5)["test"]


def test_a_missing_dev_comes_out_of_train_or_out_of_the_only_pool():
    found = split({"train": texts(40), "test": texts(10, "other")}, dev=8)
    assert len(found["dev"]) == 8 and all(text.startswith("text") for text in found["dev"])
    assert len(found["train"]) == 32 and len(found["test"]) == 10
    found = split({"test": texts(40)}, test=10, dev=5)
    assert [len(of) for of in found.values()] == [25, 5, 10]


def test_a_small_pool_leaves_a_quarter_to_train():
    found = split({"train": texts(40)}, dev=1000, test=2000)
    assert [len(of) for of in found.values()] == [10, 10, 20]
    found = split({"train": texts(40), "test": texts(5, "other")}, dev=1000)
    assert [len(of) for of in found.values()] == [10, 30, 5]


def test_sizes_are_the_most_that_a_split_keeps():
    found = split({"train": texts(40), "dev": texts(9, "d"), "test": texts(9, "t")}, train=7, dev=2)
    assert [len(of) for of in found.values()] == [7, 2, 9]


def test_a_group_never_lies_in_two_splits():
    def group(text):
        return text.split()[1][0]

    found = split({"train": texts(100)}, group, dev=15, test=15)
    groups = [{group(text) for text in of} for of in found.values()]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert len(found["dev"]) == len(found["test"]) == 15
    assert len(found["train"]) < 70  # what is left of the cut groups is in no split


def test_one_content_in_two_groups_is_in_one_split_all_the_same():
    rows = [("same", n) for n in range(9)] + [(f"own {n}", n) for n in range(9)]
    found = divided(
        "a set",
        {"train": rows, "test": rows},
        text=lambda row: row[0],
        sizes={"train": None, "dev": 1, "test": 3},
        group=lambda row: str(row[1]),
    )
    contents = [row[0] for of in found.values() for row in of]
    assert len(set(contents)) == len(contents)


def test_a_split_without_a_row_is_refused_with_the_sizes_of_the_pools():
    with pytest.raises(
        DataError,
        match=r"no row is left for train \(rows by pool, without duplicates: train 2, dev 1",
    ):
        split({"train": ["a", "b"], "dev": ["c"], "test": ["A", "B"]})
    with pytest.raises(DataError, match="no row is left for test"):
        split({"train": []}, dev=1, test=1)


def test_the_fingerprint_is_that_of_content_reference_and_hint_in_order():
    def made(**changed):
        row = {"content": {"q": "x"}, "reference": "1", "hint": None} | changed
        return fingerprint({"train": [Example(**row), Example({"q": "y"})], "dev": [], "test": []})

    assert made() == made()
    assert len({made(), made(reference="2"), made(hint="h"), made(content={"q": "z"})}) == 4


def test_a_question_with_two_answers_is_told_with_both_places_and_the_first_is_kept():
    rows = [
        Located({"q": f"Question {n}?", "a": str(n)}, f"train.jsonl, line {n + 1}")
        for n in range(8)
    ]
    twice = Located({"q": "question  3?", "a": "9"}, "train.jsonl, line 9")
    with pytest.warns(DataWarning) as told:
        found = divided(
            "a set",
            {"train": [*rows, twice, rows[0]]},
            text=lambda row: row["q"],
            sizes={**ALL, "dev": 1, "test": 1},
            answer=lambda row: row["a"],
        )
    assert len(told) == 1
    assert "1 question with two answers" in str(told[0].message)
    assert "'3' (train.jsonl, line 4) and '9' (train.jsonl, line 9)" in str(told[0].message)
    kept = [row["a"] for split in found.values() for row in split]
    assert sorted(kept) == [str(n) for n in range(8)]


def test_answers_that_agree_are_no_matter(recwarn):
    pools = {"train": ["A", "a", "b", "c", "d"]}
    divided("a set", pools, text=str, sizes={**ALL, "dev": 1, "test": 1}, answer=str.casefold)
    assert not recwarn.list
