"""Extraction: four stages on disk, each of which goes on where it was stopped; train alone."""

import dataclasses
import json
import shutil

import pytest
from scripted import SECRET, Codes, reader

from opcd_bench.config import experience as config
from opcd_bench.config.validated import validated
from opcd_bench.distillation.stored_replies import read_stored
from opcd_bench.envs import context_file
from opcd_bench.errors import ConfigError, DataError, StoreError
from opcd_bench.experience import extract
from opcd_bench.experience.extract import Extraction
from opcd_bench.experience.prompts import MicroPrompts
from opcd_bench.experience.recipe import Recipe
from opcd_bench.experience.solve import drawn_examples
from opcd_bench.progress import QuietReporter
from opcd_bench.rollout.engine import Sampling
from opcd_bench.store.files import LOCK, temporary_beside
from opcd_bench.store.lease import Lease
from opcd_bench.version import __version__

RECIPE = Recipe.of(
    config.Extraction(items=4, seeds=3, max_context_tokens=200), batch=8,
    solving=Sampling(max_completion_length=40), reflecting=Sampling(0.0, max_completion_length=80),
)  # fmt: skip


def answer(prompt, seed):
    """A solver that guesses; a reflection that writes what it saw of the problem's number."""
    if "Write the lessons" not in prompt:
        return f"guess {seed % 97}"
    number = int(prompt.split("Code of ")[1].split("?")[0])
    return f"- EXPERIENCE ITEM: rule{number % 4} of {number}"


def extraction(loaded, out, recipe=RECIPE, task=None, answer=answer, **engine):
    return Extraction(
        task or Codes(["train"]), recipe, MicroPrompts(), reader(loaded, answer, **engine), out,
        QuietReporter(),
    )  # fmt: skip


def files(folder):
    """Every file below a folder by name, with its bytes."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if not name.endswith("lock")}


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- the stages -----------------------------------------------------------------------------------


def test_attempts_become_reflections_items_and_a_context_a_seed(tiny_loaded, tmp_path):
    made = extraction(tiny_loaded, tmp_path)
    results = made.run()
    assert [one.seed for one in results] == [0, 1, 2]
    for one in results:
        drawn = drawn_examples(made.task, one.seed, 4)
        numbers = [example.content["n"] for example in drawn]
        context = context_file.read(one.path)
        assert context.items == tuple(f"rule{n % 4} of {n}" for n in numbers)
        assert context.text == "\n".join(f"- EXPERIENCE ITEM: {item}" for item in context.items)
        assert context.placement == "system"
        assert one.tokens == len(tiny_loaded.tokenizer(context.text)["input_ids"])
        assert (one.items, one.kept, one.statuses["read"]) == (4, 4, 4)
        assert context.provenance["examples"] == [example.id for example in drawn]
        reflected = rows(made.folder.file("reflections", one.seed))
        assert [row["position"] for row in reflected] == [0, 1, 2, 3]
        assert reflected[1]["items"] == [context.items[1]]
    assert results[0].path == tmp_path / "memoryless" / "s000.json"
    assert sorted(p.name for p in (tmp_path / "memoryless").glob("*.json")) == [
        "s000.json", "s001.json", "s002.json"
    ]  # fmt: skip


def test_the_provenance_says_how_to_make_it_again_and_which_files_it_came_from(
    tiny_loaded, tmp_path
):
    from opcd_bench.store.files import checksum

    (first, *_) = extraction(tiny_loaded, tmp_path).run()
    made = context_file.read(first.path).provenance
    assert made["model"] == {"model": "scripted"}
    assert (made["task"], made["task_version"], made["split"], made["seed"]) == (
        "codes", 1, "train", 0
    )  # fmt: skip
    assert (made["variant"], made["accumulate"], made["max_context_tokens"], made["items"]) == (
        "memoryless", "newest", 200, 4
    )  # fmt: skip
    assert made["prompts"] == MicroPrompts().describe()
    assert set(made["files"]) == {"traces", "reflections", "items"}
    for file in made["files"].values():
        assert checksum(tmp_path / file["file"]).sha256 == file["sha256"]


def test_only_train_is_read_and_no_reflection_reads_a_reference(tiny_loaded, tmp_path):
    """`Codes` raises where another split is read; its grade's reason holds the reference."""
    task = Codes(["train"])
    made = extraction(tiny_loaded, tmp_path, task=task)
    made.run()
    assert task.read == {"train"}
    assert "reference-of" in (tmp_path / "traces" / "s000.jsonl").read_text()
    assert len(made.reader.engine.asked) == 24
    assert not [prompt for prompt in made.reader.engine.asked if SECRET in prompt]
    later = [path for path in (tmp_path / "memoryless").rglob("*") if path.is_file()]
    assert len(later) == 9 and not [path for path in later if SECRET in path.read_text()]


@pytest.mark.parametrize("variant", ["memoryless", "with-previous", "raw-traces"])
def test_feedback_that_gives_the_answer_is_withheld_from_every_variant(
    tiny_loaded, tmp_path, variant
):
    task = Codes(["train"], feedback="the answer was {ref}")
    recipe = dataclasses.replace(RECIPE, variant=variant)
    made = extraction(tiny_loaded, tmp_path, recipe, task)
    with pytest.raises(DataError, match="12 attempts gave no lesson at all"):
        made.run()
    assert not [prompt for prompt in made.reader.engine.asked if SECRET in prompt]
    assert made._statuses(1) == {
        "read": 0, "withheld": 4, "too long": 0, "failed": 0, "skipped": 0
    }  # fmt: skip


def test_the_attempts_are_plain_and_a_stored_writer_reads_them(tiny_loaded, tmp_path):
    made = extraction(tiny_loaded, tmp_path)
    made.run(until="traces")
    assert not [prompt for prompt in made.reader.engine.asked if "a code is a rule" in prompt]
    stored = [t for _, t in read_stored(str(tmp_path / "traces" / "s001.jsonl"))]
    assert [t.example_id for t in stored] == [e.id for e in drawn_examples(made.task, 1, 4)]


def test_each_seed_attempts_other_examples_with_noise_of_its_own(tiny_loaded, tmp_path):
    task = Codes(["train"])
    drawn = [[e.id for e in drawn_examples(task, seed, 20)] for seed in range(3)]
    assert len({tuple(ids) for ids in drawn}) == 3
    assert all(len(set(ids)) == 20 for ids in drawn)
    assert drawn_examples(task, 1, 5) == drawn_examples(task, 1, 20)[:5]


def test_a_train_split_smaller_than_the_attempts_comes_again_with_other_noise(
    tiny_loaded, tmp_path
):
    """The papers' 3x3 lake has eight maps to train on, and thirty attempts."""
    drawn = [e.content["n"] for e in drawn_examples(Codes(["train"]), 0, 45)]
    assert sorted(drawn[:20]) == sorted(drawn[20:40]) == list(range(20))
    assert drawn[:20] != drawn[20:40]
    made = extraction(tiny_loaded, tmp_path, dataclasses.replace(RECIPE, items=45, seeds=1))
    made.run("traces")
    tried = [t for _, t in read_stored(str(tmp_path / "traces" / "s000.jsonl"))]
    said = {(t.example_id, t.turns[0].reply.text) for t in tried}
    assert len(said) > 40
    empty = Codes(["train"])
    empty.examples = lambda split: []
    with pytest.raises(DataError, match="no train examples"):
        drawn_examples(empty, 0, 1)


def test_a_stage_may_be_the_last_and_the_next_command_goes_on(tiny_loaded, tmp_path):
    expected = tmp_path / "whole"
    extraction(tiny_loaded, expected).run()
    for until, there in [
        ("traces", {"traces"}),
        ("reflections", {"traces", "memoryless/reflections"}),
        ("items", {"traces", "memoryless/reflections", "memoryless/items"}),
    ]:
        assert extraction(tiny_loaded, tmp_path / "part").run(until) == []
        folders = {name.rpartition("/")[0] for name in files(tmp_path / "part")}
        assert folders - {""} == there
    engine = extraction(tiny_loaded, tmp_path / "part")
    assert len(engine.run()) == 3
    assert engine.reader.engine.asked == []
    assert files(tmp_path / "part") == files(expected)


# --- variants -------------------------------------------------------------------------------------


def test_with_previous_reads_the_lessons_kept_so_far_and_memoryless_reads_none(
    tiny_loaded, tmp_path
):
    recipe = dataclasses.replace(RECIPE, variant="with-previous")
    made = extraction(tiny_loaded, tmp_path, recipe)
    results = made.run()
    asked = [prompt for prompt in made.reader.engine.asked if "Write the lessons" in prompt]
    assert len(asked) == 12
    assert [prompt.count("EXPERIENCE ITEM") for prompt in asked] == [0] * 3 + [1] * 3 + [2] * 3 + [
        3
    ] * 3
    last = context_file.read(results[2].path)
    assert all(f"- EXPERIENCE ITEM: {item}\n" in asked[-1] + "\n" for item in last.items[:2])
    alone = extraction(tiny_loaded, tmp_path)
    alone.run()
    assert not [prompt for prompt in alone.reader.engine.asked if "EXPERIENCE ITEM" in prompt]


def test_with_previous_keeps_to_the_limit_too(tiny_loaded, tmp_path):
    recipe = dataclasses.replace(RECIPE, variant="with-previous", max_context_tokens=75)
    made = extraction(tiny_loaded, tmp_path, recipe)
    results = made.run()
    asked = [prompt for prompt in made.reader.engine.asked if "Write the lessons" in prompt]
    assert max(prompt.count("EXPERIENCE ITEM") for prompt in asked) == 2
    assert all(one.kept == 2 and one.tokens <= 75 for one in results)


def test_raw_traces_are_told_without_any_reflection_from_the_same_attempts(tiny_loaded, tmp_path):
    extraction(tiny_loaded, tmp_path).run()
    recipe = dataclasses.replace(RECIPE, variant="raw-traces", max_context_tokens=250)
    made = extraction(tiny_loaded, tmp_path, recipe)
    results = made.run()
    assert made.reader.engine.asked == []
    stored = [t for _, t in read_stored(str(tmp_path / "traces" / "s000.jsonl"))]
    items = context_file.read(results[0].path).items
    assert items == tuple(
        f"TASK\n{t.turns[0].messages[0]['content']}\nREPLY\n{t.turns[0].reply.text}\n"
        f"FEEDBACK\n{t.feedback}"
        for t in stored[-results[0].kept :]
    )
    assert 0 < results[0].kept <= 4 and results[0].tokens <= 250


# --- stopped and started --------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["memoryless", "with-previous"])
@pytest.mark.parametrize("stop", [0, 1, 8, 11, 12, 13, 19, 20, 23])
def test_ctrl_c_anywhere_loses_nothing_that_is_stored_and_changes_no_byte(
    tiny_loaded, tmp_path, stop, variant
):
    recipe = dataclasses.replace(RECIPE, variant=variant, batch=4)
    extraction(tiny_loaded, tmp_path / "whole", recipe).run()
    stopped = extraction(tiny_loaded, tmp_path / "part", recipe, stop_after=stop)
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    before = {name: data for name, data in files(tmp_path / "part").items()}
    again = extraction(tiny_loaded, tmp_path / "part", recipe)
    again.run()
    after = files(tmp_path / "part")
    assert after == files(tmp_path / "whole")
    assert all(after[name].startswith(data) for name, data in before.items())
    repeated = len(stopped.reader.engine.asked) + len(again.reader.engine.asked) - 24
    assert 0 <= repeated < 4, "at most the batch that was being written is written again"


def test_a_torn_row_of_a_killed_reflection_is_written_anew(tiny_loaded, tmp_path):
    extraction(tiny_loaded, tmp_path / "whole").run()
    extraction(tiny_loaded, tmp_path / "part").run("reflections")
    file = tmp_path / "part" / "memoryless" / "reflections" / "s002.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    again = extraction(tiny_loaded, tmp_path / "part")
    again.run()
    assert again.reader.engine.batches == [4], "its batch is written anew: round-off is the same"
    assert files(tmp_path / "part") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("variant", "seed", "left", "batches"),
    [
        ("memoryless", 0, 1, [5, 5, 2]),
        ("memoryless", 1, 2, [5, 2]),
        ("memoryless", 2, 3, [2]),
        ("with-previous", 1, 2, [2, 1, 2, 1]),
        ("with-previous", 2, 3, [1]),
    ],
)
def test_a_reflection_that_goes_on_has_the_batch_mates_of_one_that_was_never_stopped(
    tiny_loaded, tmp_path, variant, seed, left, batches
):
    recipe = dataclasses.replace(RECIPE, variant=variant, batch=5 if variant[0] == "m" else 2)
    whole = extraction(tiny_loaded, tmp_path / "whole", recipe)
    whole.run()
    extraction(tiny_loaded, tmp_path / "part", recipe).run("reflections")
    for later in range(seed, 3):
        file = tmp_path / "part" / variant / "reflections" / f"s{later:03}.jsonl"
        lines = file.read_bytes().splitlines(keepends=True)
        keep = left if variant != "memoryless" or later == seed else 0
        file.write_bytes(b"".join(lines[:keep]))
    again = extraction(tiny_loaded, tmp_path / "part", recipe)
    again.run()
    assert again.reader.engine.batches == batches
    asked = whole.reader.engine.asked
    assert again.reader.engine.asked == asked[len(asked) - sum(batches) :]
    assert files(tmp_path / "part") == files(tmp_path / "whole")


def test_more_seeds_join_and_leave_those_that_are_there(tiny_loaded, tmp_path):
    extraction(tiny_loaded, tmp_path).run()
    before = files(tmp_path)
    more = extraction(tiny_loaded, tmp_path, dataclasses.replace(RECIPE, seeds=5))
    assert len(more.run()) == 5
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert "memoryless/s004.json" in after


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"items": 5}, "items: 4 -> 5"),
        ({"solving": Sampling(0.5, max_completion_length=40)}, "sampling.temperature: 1.0 -> 0.5"),
        ({"max_context_tokens": 99}, "max_context_tokens: 200 -> 99"),
        ({"accumulate": "consensus"}, 'accumulate: "newest" -> "consensus"'),
    ],
)
def test_a_folder_of_other_settings_is_refused_and_left_as_it_is(
    tiny_loaded, tmp_path, changed, told
):
    extraction(tiny_loaded, tmp_path).run()
    before = files(tmp_path)
    with pytest.raises(StoreError) as caught:
        extraction(tiny_loaded, tmp_path, dataclasses.replace(RECIPE, **changed)).run()
    assert told in str(caught.value) and "--out" in str(caught.value)
    assert files(tmp_path) == before


def test_another_version_leaves_the_contexts_that_are_there(tiny_loaded, tmp_path, monkeypatch):
    """Suites have sealed them, and no number depends on the version."""
    extraction(tiny_loaded, tmp_path).run()
    before = files(tmp_path)
    monkeypatch.setattr(extract, "__version__", "99.0")
    more = extraction(tiny_loaded, tmp_path, dataclasses.replace(RECIPE, seeds=4)).run()
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    versions = [context_file.read(one.path).provenance["opcd_bench"] for one in more]
    assert versions == [__version__] * 3 + ["99.0"]


@pytest.mark.parametrize("edited", ["memoryless/s001.json", "memoryless/items/s001.jsonl"])
def test_what_was_edited_is_refused_and_left_as_it_is(tiny_loaded, tmp_path, edited):
    extraction(tiny_loaded, tmp_path).run()
    path = tmp_path / edited
    path.write_text(path.read_text().replace("rule", "rules"))
    before = files(tmp_path)
    with pytest.raises(
        StoreError, match=rf"{edited}: is there and is not what .*rm -r \S*{edited}"
    ):
        extraction(tiny_loaded, tmp_path).run()
    assert files(tmp_path) == before


def test_reflections_are_never_taken_for_those_of_other_attempts(tiny_loaded, tmp_path):
    """Somebody removed the attempts alone, and makes others."""
    extraction(tiny_loaded, tmp_path).run()
    shutil.rmtree(tmp_path / "traces")
    (tmp_path / "traces.json").unlink()
    colder = dataclasses.replace(RECIPE, solving=Sampling(0.5, max_completion_length=40))
    with pytest.raises(StoreError, match="memoryless was made with other settings"):
        extraction(tiny_loaded, tmp_path, colder).run()


@pytest.mark.parametrize("name", [".work.tmp/thesis.tex", "thesis.tex", "traces.json"])
def test_a_folder_of_something_else_is_refused_and_nothing_in_it_is_touched(
    tiny_loaded, tmp_path, name
):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    with pytest.raises(StoreError, match="no extraction of opcd-bench") as refused:
        extraction(tiny_loaded, tmp_path).run()
    assert files(tmp_path) == {name: b"{}"} and "rm " not in str(refused.value)


def test_what_a_kill_left_in_any_stage_goes_and_what_others_put_there_stays(tiny_loaded, tmp_path):
    extraction(tiny_loaded, tmp_path).run()
    before = files(tmp_path)
    for stage in ("", "traces", "memoryless", "memoryless/items", "memoryless/reflections"):
        temporary_beside(tmp_path / stage / "s000.jsonl").write_text("half")
        (tmp_path / stage / ".s000.jsonl.0a1b2c3d.tmp").write_text("not ours")
    extraction(tiny_loaded, tmp_path).run()
    left = {name for name in files(tmp_path) if name not in before}
    assert len(left) == 5 and all(name.endswith(".s000.jsonl.0a1b2c3d.tmp") for name in left)


def test_a_folder_that_another_process_writes_is_refused(tiny_loaded, tmp_path):
    with Lease(tmp_path / LOCK), pytest.raises(StoreError, match="is writing this folder now"):
        extraction(tiny_loaded, tmp_path).run()
    assert len(extraction(tiny_loaded, tmp_path).run()) == 3


def test_another_model_or_task_version_is_refused(tiny_loaded, tmp_path):
    extraction(tiny_loaded, tmp_path).run("traces")
    other = extraction(tiny_loaded, tmp_path)
    other.reader = dataclasses.replace(other.reader, identity={"model": "other"})
    with pytest.raises(StoreError, match=r'model\.model: "scripted" -> "other"'):
        other.run()
    newer = Codes(["train"])
    newer.version = 2
    with pytest.raises(StoreError, match="task_version: 1 -> 2"):
        extraction(tiny_loaded, tmp_path, task=newer).run()


def test_a_seed_without_a_lesson_has_no_context_and_is_warned_of(tiny_loaded, tmp_path):
    def silent(prompt, seed):
        numbers = [f"Code of {e.content['n']}?" for e in drawn_examples(Codes(), 1, 4)]
        return "nothing" if any(n in prompt for n in numbers) else answer(prompt, seed)

    made = extraction(tiny_loaded, tmp_path, dataclasses.replace(RECIPE, items=3), answer=silent)
    results = made.run()
    assert [one.path is None for one in results] == [False, True, False]
    assert "seed 1: its attempts gave no lesson" in made.console.warnings[0]
    assert not (tmp_path / "memoryless" / "s001.json").exists()


def test_a_cut_reflection_keeps_its_whole_lessons_only(tiny_loaded, tmp_path):
    def two(prompt, seed):
        return "- EXPERIENCE ITEM: whole\n- EXPERIENCE ITEM: ha"

    results = extraction(tiny_loaded, tmp_path, answer=two, finish="length").run()
    assert context_file.read(results[0].path).items == ("whole",)


def test_a_recipe_of_nothing_is_refused():
    told = r"items: must be 1 or more; allowed: .* \(given: 0\)\n  seeds: must be 1 or more"
    with pytest.raises(ConfigError, match=told):
        validated(config.Extraction, {"items": 0, "seeds": 0}, "a test")
