"""Stored replies: read as rows, checked against task and model, handed out in turn."""

import dataclasses
import json
import re

import pytest
from fixtures import tiny_tokenizer
from toy import Toy, toy_suite

from opcd_bench.distillation.sampling import schedule
from opcd_bench.distillation.stored_replies import StoredReplies, read_stored, row_of
from opcd_bench.envs.task import Example, Grade
from opcd_bench.errors import DataError
from opcd_bench.models.decoded import reply_text
from opcd_bench.rollout.engine import Reply
from opcd_bench.rollout.trajectory import Skipped, Trajectory, TurnRecord
from opcd_bench.store import jsonl

EOS = 2
TRAIN = Toy().examples("train")
ONE, TWO = TRAIN[:2]


def rows(file):
    return [written for _, written in read_stored(str(file))]


def reply(text, finish="stop", tokenizer=None):
    """As a model writes it, its end of sequence included."""
    ids = (tokenizer or tiny_tokenizer())(text, add_special_tokens=False)["input_ids"]
    ids = (*ids, EOS) if finish == "stop" else tuple(ids)
    return Reply(ids, (-0.5,) * len(ids), text, finish)


def trajectory(example, *replies, outcome="correct"):
    messages = ({"role": "user", "content": f"Say {example.content['word']}."},)
    turns = tuple(TurnRecord(messages, (1,), one) for one in replies or (reply("abc"),))
    return Trajectory(example.id, turns, Grade(1.0, "a", "why"), outcome, "")


def stored(file, *written):
    file.write_bytes(jsonl.joined(map(row_of, written)))
    return file


@pytest.fixture
def suite(tiny_model_folder, tmp_path):
    return toy_suite(tiny_model_folder, tmp_path)


@pytest.fixture
def refused(suite, tiny_loaded, tmp_path):
    """Whether rows are refused, and with which words; task and settings may differ."""

    def call(*written, says=None, task=None, lacking=False, **settings):
        file = stored(tmp_path / "s.jsonl", *written)
        own = suite.model_copy(update=settings)

        def load():
            held = StoredReplies(str(file), task or Toy(), own)
            held.refuse_other_tokens(tiny_loaded)
            if lacking:
                held.refuse_lacking(0, range(own.max_steps))

        if says is None:
            load()
            return
        with pytest.raises(DataError) as caught:
            load()
        for part in says if isinstance(says, list) else [says]:
            assert part in str(caught.value), str(caught.value)

    return call


# --- rows -----------------------------------------------------------------------------------------


def test_stored_trajectories_come_back_as_they_were(tmp_path):
    file = tmp_path / "stored.jsonl"
    kept = [trajectory(ONE), trajectory(TWO)]
    stored(file, *kept)
    assert rows(file) == kept


def test_a_stored_row_ends_with_its_newline_alone(tmp_path):
    """The store writes the other line ends of Unicode, which a hot student writes, as they are."""
    said = Reply((7, EOS), (-0.5, -0.5), "one\u2028two\u2029three\x85four\x0b\x0c\x1c", "stop")
    kept = trajectory(ONE, said)
    file = stored(tmp_path / "stored.jsonl", kept, trajectory(TWO))
    assert rows(file) == [kept, trajectory(TWO)]
    file.write_bytes(file.read_bytes().removesuffix(b"\n"))
    assert rows(file) == [kept, trajectory(TWO)]


@pytest.mark.parametrize("row", [b"5", b'{"skipped": 5}', b"[" * 9**5, b'"skipped"', b"\xff"])
def test_a_row_of_another_kind_is_named_by_its_line(tmp_path, row):
    file = tmp_path / "stored.jsonl"
    file.write_bytes(stored(file, trajectory(ONE)).read_bytes() + row + b"\n")
    with pytest.raises(DataError, match=r"stored\.jsonl, line 2"):
        rows(file)


def test_a_bad_line_is_named_and_so_is_a_missing_or_empty_file(tmp_path):
    file = tmp_path / "stored.jsonl"
    file.write_text(json.dumps(trajectory(ONE).to_json()) + "\n{}\n")
    with pytest.raises(DataError, match=r"stored\.jsonl, line 2"):
        rows(file)
    file.write_text("{half")
    with pytest.raises(DataError, match=r"stored\.jsonl, line 1"):
        rows(file)
    file.write_text("")
    with pytest.raises(DataError, match="the file is empty"):
        rows(file)
    with pytest.raises(DataError, match="No such file"):
        rows(tmp_path / "absent.jsonl")


def test_a_folder_is_its_files_in_the_order_of_their_names(tmp_path):
    folder = tmp_path / "told-toy--0123456789"
    folder.mkdir()
    with pytest.raises(DataError, match=r"no \.jsonl file lies below this folder"):
        rows(folder)
    (folder / "step_000001.sha256").write_text("of its store")
    stored(folder / "step_000002.jsonl", trajectory(TWO))
    stored(folder / "step_000001.jsonl", trajectory(ONE), Skipped(TWO.id, 0, 9, 8))
    assert rows(folder) == [trajectory(ONE), Skipped(TWO.id, 0, 9, 8), trajectory(TWO)]
    (folder / "step_000003.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"step_000003\.jsonl, line 1"):
        rows(folder)
    for file in folder.glob("*.jsonl"):
        file.write_text("")
    with pytest.raises(DataError, match="its files are empty"):
        rows(folder)


def test_a_score_of_a_suite_is_no_response(tmp_path):
    """Stores of before had them as plain files, beside the responses."""
    shared = tmp_path / "shared"
    for folder in ("told-toy--0123456789", "toy--0123456789", "audit-toy--abcdef0123"):
        (shared / folder).mkdir(parents=True)
    scores = [shared / "toy--0123456789" / "base-dev-s0.jsonl",
              shared / "told-toy--0123456789" / "notes.jsonl",
              shared / "audit-toy--abcdef0123" / "replies.jsonl"]  # fmt: skip
    for file in scores:
        file.write_text('{"score": 1.0}\n')
    with pytest.raises(DataError, match=r"no \.jsonl file lies below .* but for scores"):
        rows(shared)
    stored(shared / "told-toy--0123456789" / "step_000001.jsonl", trajectory(ONE))
    assert rows(shared) == [trajectory(ONE)] == rows(shared / "told-toy--0123456789")
    with pytest.raises(DataError, match="but for scores"):
        rows(shared / "toy--0123456789")


def test_an_example_with_responses_of_two_teachers_or_seeds_is_refused(suite, tmp_path):
    """They would be handed out in the order of hashes, whoever sampled them."""
    own = suite.model_copy(update={"tasks": ["toy", "toy_2"]})
    first, other = (tmp_path / f"told-toy--{key * 10}" for key in "ab")
    for folder in (first, other, tmp_path / f"told-toy_2--{'0' * 10}"):
        folder.mkdir()
        stored(folder / "step_000001.jsonl", *map(trajectory, TRAIN))
        stored(folder / "step_000002.jsonl", *map(trajectory, TRAIN))
    with pytest.raises(DataError) as caught:
        StoredReplies(str(tmp_path), Toy(), own)
    for part in (ONE.id, "has responses in 2 folders", f"give one of them, stored('{first}')"):
        assert part in str(caught.value)
    StoredReplies(str(first), Toy(), own).refuse_lacking(0, range(3))
    both = [row for folder in (first, other) for row in rows(folder)]
    StoredReplies(str(stored(tmp_path / "both.txt", *both)), Toy(), own)
    for file in other.iterdir():
        file.unlink()
    held = StoredReplies(str(tmp_path), Toy(), own)  # the other task's are left out
    held.refuse_lacking(0, range(3))
    assert {place.file.parent for rows in held._held.values() for place, _ in rows} == {first}


# --- tokens ---------------------------------------------------------------------------------------


def test_rows_as_models_write_them_pass(refused, tiny_loaded):
    """Ends of sequence, cut replies, tokens that are no text, thoughts that the prompt opened."""
    half = reply("é", finish="length").ids[:1]
    cut = Reply(half, (-0.5,), tiny_text(*half), "length")
    assert "\ufffd" in cut.text
    begun = dataclasses.replace(reply("</a>b"), text="<think>\n</a>b")
    refused(trajectory(ONE), trajectory(ONE, cut), trajectory(TWO, begun))
    refused(trajectory(ONE, Reply((7, EOS, 8), (-0.5,) * 3, tiny_text(7, 8), "stop")))


def tiny_text(*ids):
    return reply_text(tiny_tokenizer(), ids)


@pytest.mark.parametrize("outside", [259, 40_000, -1])
def test_a_token_outside_the_vocabulary_is_refused(refused, outside):
    bad = Reply((7, outside), (-0.5, -0.5), "abc", "stop")
    refused(trajectory(TWO), trajectory(ONE, bad), says=[
        "s.jsonl, line 2", f"token {outside} is not in the vocabulary", "259 tokens"
    ])  # fmt: skip


def test_ids_that_say_other_than_the_text_are_refused(refused):
    other = dataclasses.replace(reply("Answer: 21"), text="Answer: 12")
    says = ["line 1", "its text says 'Answer: 12' where its ids says 'Answer: 21'", "tokenizer"]
    refused(trajectory(ONE, other), says=says, max_completion_length=20)
    for text in ("", "abc ", "xabc", "<think>abc</think>abc"):
        refused(trajectory(ONE, dataclasses.replace(reply("abc"), text=text)), says="its ids")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("ids", [], "ids are not whole numbers"),
        ("ids", [1.0], "ids are not whole numbers"),
        ("ids", "ab", "ids are not whole numbers"),
        ("ids", [True], "ids are not whole numbers"),
        ("reply", None, "the text of a response is None"),
        ("outcome", "fine", "outcome is 'fine'; use one of correct, wrong"),
        ("score", "1", "this is not a stored trajectory"),
        ("turns", [], "0 turns; an attempt at task 'toy' has 1 to 1"),
    ],
)
def test_values_that_no_attempt_has_are_refused(suite, tmp_path, field, value, says):
    row = trajectory(ONE).to_json()
    (row["turns"][0] if field in row["turns"][0] else row)[field] = value
    (tmp_path / "s.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=rf"s\.jsonl, line 1: {re.escape(says)}"):
        StoredReplies(str(tmp_path / "s.jsonl"), Toy(), suite)


def test_a_longer_response_than_the_suites_is_refused_up_to_its_first_end(refused):
    refused(trajectory(ONE, reply("abcde")))
    refused(trajectory(ONE, reply("abcdef")), says=[
        "the response has 7 tokens, more than max_completion_length = 6",
        "--set max_completion_length=7",
    ])  # fmt: skip
    padded = reply("abcde")
    refused(trajectory(ONE, dataclasses.replace(padded, ids=(*padded.ids, EOS, EOS))))


# --- prompts --------------------------------------------------------------------------------------


class Drawn(Toy):
    """The first prompt holds a number that is drawn for every attempt."""

    def open(self, example, seed):
        episode = super().open(example, seed)
        episode.messages = [{"role": "user", "content": f"Say {example.content['word']}{seed}."}]
        return episode


class Broken(Toy):
    def open(self, example, seed):
        raise RuntimeError("a fault of the task's own code")


def asked(example, *messages):
    kept = trajectory(example)
    return dataclasses.replace(kept, turns=(dataclasses.replace(kept.turns[0], messages=messages),))


def test_a_response_to_another_prompt_is_refused_with_what_differs(refused):
    user = {"role": "user", "content": "Say train0."}
    other = {"role": "user", "content": "Say train0, please."}
    rules = {"role": "system", "content": Toy().context().text}
    for messages, says in (
        ([other], f"example {ONE.id}"),
        (
            [other],
            "message 1: the file says 'Say train0, please.' where the task says 'Say train0.'",
        ),
        ([{**user, "role": "system"}], "message 1 is of 'system', not of 'user'"),
        ([rules, user], "message 1 is of 'system', not of 'user'"),
        ([user, other], "it has 2 messages, and the task's has 1"),
        ([], "it has 0 messages, and the task's has 1"),
    ):
        refused(trajectory(TWO), asked(ONE, *messages), says=["line 2", says])


def test_a_prompt_that_is_drawn_anew_each_time_is_not_compared(refused):
    refused(asked(ONE, {"role": "user", "content": "Say train0123."}), task=Drawn())
    refused(trajectory(ONE), task=Broken())


def test_attempts_that_failed_and_other_tasks_examples_are_not_looked_at(refused):
    failed = asked(ONE, {"role": "user", "content": "?"})
    failed = dataclasses.replace(failed, outcome="failed", turns=())
    elsewhere = dataclasses.replace(trajectory(ONE), example_id=Example({"word": "?"}).id)
    refused(failed, elsewhere)


# --- which is handed out --------------------------------------------------------------------------


def test_the_nth_response_goes_to_the_nth_time_that_its_example_is_asked_for(suite, tmp_path):
    """Two generations of six examples, three to a step, two epochs; three are stored of each."""
    own = suite.model_copy(update={"batch_size": 3, "num_generations": 2, "max_steps": 4})
    kept = [trajectory(one, reply(f"r{n}")) for n in range(3) for one in TRAIN]
    held = StoredReplies(str(stored(tmp_path / "s.jsonl", *kept)), Toy(), own)
    held.refuse_lacking(0, range(4))
    given = {}
    for step in range(4):
        slots = schedule(Toy(), own, 0, step)
        for slot, one in zip(slots, held.of_slots(slots), strict=True):
            assert one.example_id == slot.example.id
            given.setdefault(one.example_id, []).append(one.turns[0].reply.text)
    assert len(given) == 6
    assert all(texts == ["r0", "r1", "r2", "r0"] for texts in given.values())


def test_examples_without_a_response_are_counted_before_the_run(refused):
    all_but_two = [trajectory(one) for one in TRAIN[:4]]
    says = ["2 of the 6 train examples of task 'toy' that seed 0 trains on have no response there"]
    refused(*all_but_two, lacking=True, says=says)
    refused(*[trajectory(one) for one in TRAIN], lacking=True)


def test_an_example_that_the_steps_do_not_reach_may_be_lacking(refused, suite):
    short = suite.model_copy(update={"max_steps": 2})
    needed = [slot.example for step in range(2) for slot in schedule(Toy(), short, 0, step)]
    assert len(needed) == 4
    refused(*map(trajectory, needed), lacking=True, max_steps=2)
    refused(
        *map(trajectory, needed[1:]), lacking=True, max_steps=2, says=["1 of the 4", needed[0].id]
    )


def test_fewer_responses_than_generations_are_refused_with_the_setting_to_type(refused):
    kept = [trajectory(one, reply(f"r{n}")) for one in TRAIN for n in range(3)]
    refused(*kept, lacking=True, num_generations=3)
    refused(*kept[:-1], lacking=True, num_generations=3, says=[
        "num_generations = 3", "1 examples have fewer", f"{TRAIN[-1].id}, has 2",
        "--set num_generations=2",
    ])  # fmt: skip


def test_what_was_skipped_counts_where_the_suite_skips_too(refused, suite, tmp_path):
    gone = Skipped(ONE.id, 0, 900, 800)
    kept = [gone, *[trajectory(one) for one in TRAIN[1:]]]
    refused(*kept, lacking=True, overlong="refuse", says=["1 of the 6", ONE.id])
    refused(*kept, lacking=True, overlong="skip")
    skips = suite.model_copy(update={"overlong": "skip"})
    held = StoredReplies(str(stored(tmp_path / "s.jsonl", *kept)), Toy(), skips)
    given = [one for n in range(3) for one in held.of_slots(schedule(Toy(), skips, 0, n))]
    assert given.count(gone) == 1 and len(given) == 6
