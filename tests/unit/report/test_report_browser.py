"""The sample browser's files, made from a small suite that is stored as runs store it."""

import base64
import gzip
import json
import re

import pytest

from opcd_bench.envs.task import Context, Contexts
from opcd_bench.report.analysis import stored_samples
from opcd_bench.report.page import browser
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.suite_dir import SuiteDir

EVIL = "</script><script>alert(1)</script>\u2028 ](javascript:alert(2)) *é* \ud800"


def turn(prompt, reply, finish="stop"):
    return {"messages": [{"role": "user", "content": prompt}], "reply": reply, "finish": finish}


def sample(example, reply, outcome="correct", *, number=0, turns=None, answer="7", why="right"):
    """A row of a task's own samples."""
    return {"task": "toy", "split": "test", "example_id": example, "sample": number,
            "score": float(outcome == "correct"), "outcome": outcome, "answer": answer, "why": why,
            "tokens": 3, "turns": turns or [turn(f"ask {example}", reply)]}  # fmt: skip


def kept(example, followed, *, reply="text"):
    """A row of an IFEval retention task, as lm-eval's samples are stored."""
    return {"task": "keep", "split": "retention", "example_id": example, "sample": 0,
            "score": float(all(followed)), "outcome": "correct" if all(followed) else "wrong",
            "prompt": "<|im_start|>write", "reply": reply, "finish": "stop",
            "instruction_ids": ["keywords:existence", "punctuation:no_comma"],
            "values": {"inst_level_strict_acc": followed}}  # fmt: skip


def begin(suite, method, *, rate=1e-3, seed=0, task="toy"):
    config = {"suite": {}, "task": {"name": task}, "method": {"name": method},
              "learning_rate": rate, "seed": seed}  # fmt: skip
    return RunDir.open(suite.run(f"{task}--{method}--{rate:g}--s{seed}"), config, {})


def finished(suite, method, test, retention=(), *, rate=1e-3, seed=0, task="toy", anchors=()):
    with begin(suite, method, rate=rate, seed=seed, task=task) as run:
        run.samples("test", test)
        if retention:
            run.samples("retention-keep", list(retention))
        run.samples("scores-toy-step_000000", [{"task": "toy", "split": "dev", "scores": [0.0]}])
        run.seal({"chosen_step": 10, "anchors": list(anchors)})


def anchor(suite, reading, folder, name, rows):
    shared = suite.shared(folder, "k")
    shared.put(name, [{"measured": {}}, *rows])
    return {"reading": reading, "shared": shared.path.name, "name": name}


@pytest.fixture
def suite(tmp_path):
    folder = SuiteDir(tmp_path / "toys")
    folder.merge({"name": "toys"})
    return folder


def shards(suite, contexts=None):
    return browser.shards(stored_samples.sample_sets(suite.path, contexts))


def read(shard, message):
    """(role, parts, which part is the context) of a stored message."""
    role, said = message
    at, *parts = said if isinstance(said, list) else [-1, said]
    return role, [shard["texts"][part] for part in parts], at


def parsed(data):
    """What a file hands to the page."""
    text = data.decode("ascii")
    found = re.fullmatch(r"opcdSamples\.(index|shard)\((.*)\);\n", text)
    value = json.loads(found.group(2))
    return (
        json.loads(gzip.decompress(base64.b64decode(value["packed"])))
        if "packed" in value
        else value
    )


def index(files):
    return parsed(files["samples/index.js"])


def shown(files, set_number, item, column):
    """The record that the page would show of an item under a column."""
    one = index(files)["sets"][set_number]
    shard = parsed(files[f"samples/{one['stem']}-{item // browser.SHARD}.js"])
    number = shard["items"][item % browser.SHARD][column]
    if number < 0:
        return None
    record, texts = shard["records"][number], shard["texts"]
    return {
        "answer": texts[record["answer"]] if record["answer"] >= 0 else None,
        "why": texts[record["why"]] if record["why"] >= 0 else None,
        "turns": [
            ([(role, "\n\n".join(parts))
              for role, parts, _ in (read(shard, each) for each in one["messages"])],
             texts[one["reply"]], one["finish"])
            for one in record["turns"]
        ],
    }  # fmt: skip


def test_the_same_example_stands_under_base_ceiling_and_every_run(suite):
    base = anchor(suite, "base", "toy", "base-test-s0", [sample("a", "hm", "wrong", answer="3")])
    told = anchor(suite, "ceiling", "toy", "ceiling-test-s0", [sample("a", "seven")])
    finished(suite, "good", [sample("a", "7!")], anchors=[base, told])
    finished(suite, "good", [sample("a", "8", "wrong")], rate=3e-3, anchors=[base, told])
    finished(suite, "bad", [sample("a", "", "unparsable", answer=None)], seed=1, anchors=[base])
    files = shards(suite)
    (one,) = index(files)["sets"]
    assert [(c["reading"], c["method"], c["rate"], c["seed"]) for c in one["columns"]] == [
        ("base", "", 0.0, 0), ("ceiling", "", 0.0, 0), ("method", "bad", 1e-3, 1),
        ("method", "good", 1e-3, 0), ("method", "good", 3e-3, 0),
    ]  # fmt: skip
    assert one["outcomes"] == ["w", "c", "u", "c", "w"]
    assert one["columns"][3]["run"] == "toy--good--0.001--s0"
    assert shown(files, 0, 0, 0) == {
        "answer": "3", "why": "right", "turns": [([("user", "ask a")], "hm", "stop")],
    }  # fmt: skip
    assert shown(files, 0, 0, 2)["answer"] is None


def test_base_and_ceilings_have_names_for_readers(suite):
    names = ("base", "ceiling", "ceiling-adapted-grpo-told")
    anchors = [anchor(suite, one, "toy", f"{one}-test-s0", [sample("a", "x")]) for one in names]
    finished(suite, "good", [sample("a", "x")], anchors=anchors)
    assert index(shards(suite))["readings"] == {
        "base": "base", "ceiling": "in-context teacher",
        "ceiling-adapted-grpo-told": "ceiling, adapted by GRPO in context",
    }  # fmt: skip


def test_every_outcome_has_a_letter_of_its_own(suite):
    kinds = ["correct", "wrong", "unparsable", "truncated", "failed", "skipped"]
    finished(suite, "good", [sample(kind, "x", kind) for kind in kinds])
    found = index(shards(suite))
    assert found["sets"][0]["outcomes"] == ["cwutfs"]
    assert [found["letters"][letter] for letter in "cwutfs"] == kinds


def test_what_a_column_lacks_is_a_gap_and_not_an_outcome(suite):
    finished(suite, "good", [sample("a", "x"), sample("b", "x")])
    finished(suite, "late", [sample("b", "x", "wrong")])
    files = shards(suite)
    assert index(files)["sets"][0]["outcomes"] == ["cc", "-w"]
    assert shown(files, 0, 0, 1) is None


def test_samples_of_one_example_are_items_of_their_own(suite):
    finished(suite, "good", [sample("a", "x"), sample("a", "y", "wrong", number=1)])
    files = shards(suite)
    assert index(files)["sets"][0]["items"] == [["a", 0], ["a", 1]]
    assert shown(files, 0, 1, 0)["turns"][0][1] == "y"
    assert browser.count(files) == 2


def test_a_game_keeps_every_turn_with_what_was_read(suite):
    turns = [turn("board 1", "right"), turn("board 2", "down", "length")]
    finished(suite, "good", [sample("a", "", turns=turns)])
    assert shown(shards(suite), 0, 0, 0)["turns"] == [
        ([("user", "board 1")], "right", "stop"), ([("user", "board 2")], "down", "length"),
    ]  # fmt: skip


def test_a_sample_of_lm_eval_shows_its_prompt_and_which_instructions_were_followed(suite):
    base = anchor(suite, "base", "retention-keep", "base", [kept("p", [True, True])])
    finished(suite, "good", [sample("a", "x")], [kept("p", [True, False])], anchors=[base])
    files = shards(suite)
    test, retention = index(files)["sets"]
    assert (test["measured"], test["split"]) == ("toy", "test")
    assert (retention["measured"], retention["split"]) == ("keep", "retention")
    assert retention["outcomes"] == ["c", "w"]
    record = shown(files, 1, 0, 1)
    assert record["why"] == "keywords:existence: followed; punctuation:no_comma: not followed"
    assert record["turns"] == [([("prompt", "<|im_start|>write")], "text", "stop")]


def test_runs_that_are_not_sealed_are_left_out(suite):
    finished(suite, "good", [sample("a", "x")])
    with begin(suite, "late") as run:
        run.samples("test", [sample("a", "y")])
    (one,) = index(shards(suite))["sets"]
    assert [column["method"] for column in one["columns"]] == ["good"]


def test_tasks_do_not_share_their_samples(suite):
    finished(suite, "good", [sample("a", "x")], [kept("p", [True, True])])
    finished(suite, "good", [sample("b", "x")], [kept("p", [False, True])], task="other")
    stems = [one["stem"] for one in index(shards(suite))["sets"]]
    assert stems == ["other-other", "other-keep", "toy-toy", "toy-keep"]


def test_items_are_split_into_files_of_25_and_equal_texts_are_stored_once(suite):
    rows = [sample(f"e{i:02d}", "the same reply") for i in range(60)]
    for seed in range(3):
        finished(suite, "good", rows, seed=seed)
    files = shards(suite)
    names = {name for name in files if name != "samples/index.js"}
    assert names == {f"samples/toy-toy-{n}.js" for n in range(3)}
    assert parsed(files["samples/toy-toy-0.js"])["texts"].count("the same reply") == 1
    last = parsed(files["samples/toy-toy-2.js"])
    assert len(last["items"]) == 10
    assert last["items"][0] == [0, 0, 0]


def test_a_reply_stays_the_text_that_it_was_and_cannot_leave_its_file(suite):
    finished(suite, "good", [sample("a", EVIL, answer=EVIL)])
    files = shards(suite)
    assert shown(files, 0, 0, 0)["turns"][0][1] == EVIL
    data = files["samples/toy-toy-0.js"]
    assert data.isascii()
    assert data.count(b"\n") == 1


def test_anchors_of_several_seeds_are_columns_of_their_own(suite):
    anchors = [anchor(suite, "base", "toy", f"base-test-s{n}", [sample("a", f"r{n}")])
               for n in (0, 1)]  # fmt: skip
    finished(suite, "good", [sample("a", "x")], anchors=anchors)
    (one,) = index(shards(suite))["sets"]
    assert [(c["reading"], c["seed"]) for c in one["columns"][:2]] == [("base", 0), ("base", 1)]


def test_the_same_samples_give_the_same_bytes(suite):
    finished(suite, "good", [sample("a", "x"), sample("b", "y")], [kept("p", [True, True])])
    assert shards(suite) == shards(suite)


def test_a_suite_without_samples_has_an_index_of_nothing(suite):
    files = shards(suite)
    assert index(files)["sets"] == []
    assert browser.count(files) == 0


# --- with the context -------------------------------------------------------------------------


def told(example, prompt, **more):
    return {**sample(example, "seven", turns=[turn(prompt, "seven")]), "reading": "told", **more}


def first_message(files, column, item=0):
    """(role, parts, which part is the context) of what stands first under a column."""
    shard = parsed(files["samples/toy-toy-0.js"])
    record = shard["records"][shard["items"][item][column]]
    return read(shard, record["turns"][0]["messages"][0])


@pytest.mark.parametrize(
    ("placement", "wanted"),
    [
        ("system", ("system", ["The rule."], 0)),
        ("user", ("user", ["The rule.", "You play.\n\nMove."], 0)),
        ("inside", ("user", ["You play.", "The rule.", "Move."], 1)),
    ],
)
def test_what_the_teacher_read_is_shown_with_the_context_where_it_stood(suite, placement, wanted):
    rows = [told("a", "You play.\n\nMove.")]
    anchored = anchor(suite, "ceiling", "toy", "ceiling-test-s0", rows)
    finished(suite, "good", [sample("a", "7", turns=[turn("You play.\n\nMove.", "7")])],
             anchors=[anchored])  # fmt: skip
    contexts = {"toy": Contexts((Context("The rule.", placement),))}
    files = shards(suite, contexts)
    assert first_message(files, 0) == wanted
    assert first_message(files, 1) == ("user", ["You play.\n\nMove."], -1)
    assert first_message(shards(suite), 0) == ("user", ["You play.\n\nMove."], -1)


def test_of_a_pool_each_example_is_shown_with_the_context_that_it_was_told(suite):
    pool = Contexts((Context("One.", "user"), Context("Two.", "user")))
    rows = [told(f"e{i}", f"ask {i}") for i in range(8)]
    anchored = anchor(suite, "ceiling", "toy", "ceiling-test-s3", rows)
    finished(suite, "good", [sample(f"e{i}", "x") for i in range(8)], anchors=[anchored])
    files = shards(suite, {"toy": pool})
    shown = [first_message(files, 0, item)[1][0] for item in range(8)]
    assert shown == [pool.of("toy", 3, f"e{i}").text for i in range(8)]
    assert set(shown) == {"One.", "Two."}


def test_a_context_is_stored_once_a_file(suite):
    rows = [told(f"e{i}", f"ask {i}") for i in range(8)]
    anchored = anchor(suite, "ceiling", "toy", "ceiling-test-s0", rows)
    finished(suite, "good", [sample(f"e{i}", "x") for i in range(8)], anchors=[anchored])
    files = shards(suite, {"toy": Contexts((Context("A long rule.", "user"),))})
    texts = parsed(files["samples/toy-toy-0.js"])["texts"]
    assert sum("A long rule." in text for text in texts) == 1
