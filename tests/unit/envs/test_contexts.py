"""What teachers are told: where it goes, pools, the context of a suite, and what identifies it."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from toy import Toy, toy_suite

from opcd_bench.cli import settings
from opcd_bench.config.suite import make_suite
from opcd_bench.distillation import sampling
from opcd_bench.distillation.method import Teacher
from opcd_bench.distillation.pairs import pairs_of
from opcd_bench.envs import context_file, readings
from opcd_bench.envs.task import Context, Contexts
from opcd_bench.errors import ConfigError, DataError
from opcd_bench.evaluation import task_scores
from opcd_bench.models.prompts import prompt_ids
from opcd_bench.rollout.engine import Reply
from opcd_bench.runner import grid, registry
from opcd_bench.runner.models import SuiteModels
from opcd_bench.runner.resources import Resources

ROOT = Path(__file__).parents[3]
A, B, C = (Context(f"rule {name}") for name in "ABC")
IDS = [f"id{i}" for i in range(300)]


class Recording:
    """An engine that writes one byte and keeps what it was asked."""

    def __init__(self, loaded):
        self.loaded, self.asked = loaded, []

    def generate(self, requests, sampling):
        self.asked += [self.loaded.tokenizer.decode(list(r.prompt_ids)) for r in requests]
        return [Reply((70, 2), (-1.0, -1.0), "a", "stop") for _ in requests]


# --- where it goes ----------------------------------------------------------------------------


def test_a_context_inside_follows_the_first_paragraph_of_the_first_user_message():
    plain = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "You are P.\n\nThe board:\nP _"},
        {"role": "assistant", "content": "[up]"},
        {"role": "user", "content": "second\n\nboard"},
    ]
    told = Context("notes", "inside").tell(plain)
    assert told[1]["content"] == "You are P.\n\nnotes\n\nThe board:\nP _"
    assert [told[i] for i in (0, 2, 3)] == [plain[i] for i in (0, 2, 3)]


def test_a_context_inside_a_message_of_one_paragraph_is_refused_with_the_way_out():
    with pytest.raises(DataError, match='context_placement = "user"'):
        Context("notes", "inside").tell([{"role": "user", "content": "one line\nand another"}])


# --- pools ------------------------------------------------------------------------------------


def test_a_pool_of_one_is_that_context_for_every_example_and_has_its_hash():
    assert Contexts((A,)).hash == A.hash
    assert {Contexts((A,)).of("toy", 0, example) for example in IDS} == {A}


def test_each_example_draws_one_of_a_pool_about_equally_often():
    counts = Counter(Contexts((A, B, C)).of("toy", 0, example) for example in IDS)
    assert set(counts) == {A, B, C}
    assert min(counts.values()) > 70


def test_the_draw_depends_on_task_seed_and_example_and_not_on_the_order_of_the_pool():
    pool, again = Contexts((A, B, C)), Contexts((C, A, B))
    assert pool.hash == again.hash not in {A.hash, B.hash, C.hash}
    drawn = [pool.of("toy", 0, example) for example in IDS]
    assert drawn == [again.of("toy", 0, example) for example in IDS]
    assert drawn != [pool.of("toy", 1, example) for example in IDS]
    assert drawn != [pool.of("other", 0, example) for example in IDS]


def test_no_context_at_all_or_one_twice_is_no_pool():
    for bad in ((), (A, A)):
        with pytest.raises(ValueError, match="contexts:"):
            Contexts(bad)


def test_the_ceiling_the_writer_and_the_teacher_tell_an_example_what_the_pool_draws(
    tiny_loaded, tiny_model_folder, tmp_path
):
    """Four places make the told reading; an example and a seed must meet the same one in all."""
    suite = toy_suite(tiny_model_folder, tmp_path, eval_temperature=1.0)
    task = Toy().telling(Contexts((A, B, C)))
    expected = {e.id: task.contexts().of("toy", 3, e.id).text for e in task.examples("train")}
    assert len(set(expected.values())) > 1
    slots = [sampling.Slot(0, example, 0) for example in task.examples("train")]
    engine = Recording(tiny_loaded)
    written = sampling.sample_replies(slots, task, suite, 3, tiny_loaded, engine, task.contexts())
    for slot, asked in zip(slots, engine.asked, strict=True):
        assert f"system\n{expected[slot.example.id]}<" in asked
        reads = readings.told("context", task, slot.example, 3)
        assert reads is not None and reads.text == expected[slot.example.id]
    pairs = pairs_of(
        written, [slot.example for slot in slots], Teacher(), task, suite, tiny_loaded,
        seed=3, told_by=tiny_loaded, on_policy=[True] * len(slots),
    ).pairs  # fmt: skip
    for pair, slot, asked in zip(pairs, slots, engine.asked, strict=True):
        assert tiny_loaded.tokenizer.decode(list(pair.told_ids)) == asked
        assert pair.plain_ids == prompt_ids(tiny_loaded, task.open(slot.example, 0).messages)
    engine = Recording(tiny_loaded)
    task_scores.evaluate(
        task, task_scores.Asked("train", 6, 2), told=True, loaded=tiny_loaded, engine=engine,
        suite=suite, seed=3,
    )  # fmt: skip
    assert engine.asked == [
        prompt for slot in slots for prompt in [_told(task, slot.example, expected)] * 2
    ]


def _told(task, example, expected):
    word = task.open(example, 0).messages[0]["content"]
    return (
        f"<|im_start|>system\n{expected[example.id]}<|im_end|>\n"
        f"<|im_start|>user\n{word}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_told_teachers_stored_replies_are_told_the_pool_and_kept_apart_from_others(
    tiny_model_folder, tmp_path, monkeypatch
):
    from opcd_bench.progress import QuietReporter
    from opcd_bench.store.suite_dir import SuiteDir

    asked = []
    monkeypatch.setattr(SuiteModels, "engine", lambda self, loaded: asked[-1])
    suite = toy_suite(tiny_model_folder, tmp_path)
    bench = Resources(suite, SuiteDir(tmp_path / "toy"), QuietReporter())
    bench.suite_dir.merge({"name": "toy"})
    prompts = []
    for task in (Toy(), Toy().telling(Contexts((A, B)))):
        asked.append(Recording(bench.models.initial))
        for step in range(3):
            bench.told_replies.of_step(task, 0, step, teacher=Teacher())
        prompts.append(asked[-1].asked)
    assert all("odd number of letters" in prompt for prompt in prompts[0])
    assert {"rule A" in prompt for prompt in prompts[1]} == {True, False}
    assert all(("rule A" in prompt) != ("rule B" in prompt) for prompt in prompts[1])


# --- the suite's setting ----------------------------------------------------------------------


def written(folder, name, text="op@ a + b", **values):
    file = folder / name
    if name.endswith(".json"):
        file.write_text(json.dumps({"version": 1, "text": text, **values}))
    else:
        file.write_text(text)
    return str(file)


def suite_of(**values):
    return make_suite({"methods": ["opcd"], "tasks": ["rule_math"], **values}, "a test")


def cell_of(suite):
    return grid.cells(suite, *registry.plugins_of(suite))[0]


def test_a_suites_context_takes_the_place_of_the_tasks_own(tmp_path):
    suite = suite_of(context=written(tmp_path, "mine.txt", "mine\n"))
    (told,) = registry.task_of(suite, "rule_math").contexts().pool
    assert told == Context("mine", "system")
    assert registry.task_of(suite_of(), "rule_math").contexts().pool == (
        registry.task("rule_math").context(),
    )


@pytest.mark.parametrize(
    ("name", "own", "setting", "placement"),
    [
        ("a.txt", {}, None, "system"),
        ("a.json", {}, None, "system"),
        ("a.json", {"placement": "user"}, None, "user"),
        ("a.json", {"placement": "user"}, "inside", "inside"),
        ("a.txt", {}, "user", "user"),
    ],
)
def test_a_placement_is_the_settings_else_the_files_else_the_tasks(
    tmp_path, name, own, setting, placement
):
    file = written(tmp_path, name, **own)
    task = context_file.told(registry.task("rule_math"), [file], setting)
    assert [context.placement for context in task.contexts().pool] == [placement]


def test_a_placement_without_a_context_and_a_pool_that_tells_one_twice_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--context FILE"):
        registry.task_of(suite_of(context_placement="user"), "rule_math")
    one, same = written(tmp_path, "one.txt"), written(tmp_path, "same.json")
    with pytest.raises(ConfigError, match=r"one\.txt and .*same\.json hold the same"):
        registry.task_of(suite_of(context=[one, same]), "rule_math")


def test_a_task_may_be_told_otherwise_than_its_suite(tmp_path):
    mine = written(tmp_path, "mine.txt", "for all")
    lake = {"context": written(tmp_path, "lake.txt", "for the lake"), "context_placement": "user"}
    suite = suite_of(
        tasks=["rule_math", "frozen_lake"], context=mine, task_settings={"frozen_lake": lake}
    )
    _, tasks = registry.plugins_of(suite)
    assert tasks["rule_math"].contexts().pool == (Context("for all", "system"),)
    assert tasks["frozen_lake"].contexts().pool == (Context("for the lake", "user"),)


def test_a_task_with_an_empty_context_of_its_own_can_be_told_one(tmp_path):
    suite = suite_of(tasks=["told_other"], context=written(tmp_path, "a.txt"))
    assert (
        task_scores.contexts_of(registry.task_of(suite, "told_other")).pool[0].text == "op@ a + b"
    )
    with pytest.raises(DataError, match="--context FILE"):
        task_scores.contexts_of(registry.task("told_other"))


# --- identity ---------------------------------------------------------------------------------


def test_a_context_changes_a_cell_by_its_content_and_never_by_its_name(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    first = suite_of(context=written(tmp_path, "a.txt", "told"))
    moved = suite_of(context=written(tmp_path / "elsewhere", "b.json", "told"))
    other = suite_of(context=written(tmp_path, "c.txt", "told otherwise"))
    placed = first.model_copy(update={"context_placement": "user"})
    hashes = [cell_of(suite).hash10 for suite in (suite_of(), first, moved, other, placed)]
    assert hashes[1] == hashes[2]
    assert len({hashes[i] for i in (0, 1, 3, 4)}) == 4
    assert "told" not in json.dumps(cell_of(first).config["suite"])


def test_telling_the_tasks_own_context_from_a_file_is_the_cell_without_one(tmp_path):
    own = registry.task("rule_math").context()
    suite = suite_of(context=written(tmp_path, "own.txt", own.text))
    assert cell_of(suite).config == cell_of(suite_of()).config


def test_the_order_of_a_pool_is_no_part_of_a_cell(tmp_path):
    files = [written(tmp_path, f"{name}.txt", name) for name in "abc"]
    pools = [cell_of(suite_of(context=given)) for given in (files, files[::-1], files[:2])]
    assert pools[0].hash10 == pools[1].hash10 != pools[2].hash10


def test_without_a_context_the_identity_has_no_field_for_one():
    assert not {"context", "context_placement"} & set(suite_of().shared_identity())
    assert set(cell_of(suite_of()).config["task"]) == {"name", "version", "options", "context_hash"}


def test_every_sealed_run_that_ships_is_still_the_run_of_its_cell():
    """The hash in the folder's name is of all that the cell's numbers depend on."""
    stored = json.loads((ROOT / "results/reference/micro" / "suite.json").read_text())
    runs = sorted((ROOT / "results/reference/micro").glob("rule_math--*"))
    configs = [json.loads((run / "config.json").read_text()) for run in runs]
    suite = make_suite(
        {
            **{k: v for k, v in configs[0]["suite"].items()},
            "methods": sorted({config["method"]["name"] for config in configs}),
            "tasks": ["rule_math"],
            "learning_rate": sorted({config["learning_rate"] for config in configs}),
            "seeds": 1 + max(config["seed"] for config in configs),
        },
        stored["name"],
    )
    cells = {cell.name for cell in grid.cells(suite, *registry.plugins_of(suite))}
    assert {run.name for run in runs} <= cells
    assert len(runs) >= 42


def test_the_reference_suite_still_finds_its_sealed_runs(tmp_path, capsys):
    from opcd_bench.cli import main

    shutil.copytree(ROOT / "results/reference/micro", tmp_path / "micro")
    words = ["run", "--suite", "micro", "--dry-run", "--json"]
    with pytest.raises(SystemExit, match="0"):
        main.entry([*words, "--output-dir", str(tmp_path)])
    cells = json.loads(capsys.readouterr().out)["cells"]
    # The sweep: the other seeds' rates are chosen once it is there.
    assert len(cells) == 36 and all(cell["sealed"] for cell in cells)


# --- the command line -------------------------------------------------------------------------


def test_a_context_gives_a_suite_a_folder_of_its_own_by_content(tmp_path):
    (tmp_path / "b").mkdir()
    one, same = written(tmp_path, "one.txt", "t"), written(tmp_path / "b", "two.txt", "t")
    plain = settings.make("quick", {})
    made = [settings.make("quick", {"context": [name]}) for name in (one, same)]
    other = settings.make("quick", {"context": [written(tmp_path, "other.txt", "u")]})
    assert plain.name == "quick" and plain.context == ()
    assert made[0].name == made[1].name != other.name
    assert made[0].name.startswith("quick-") and made[0].context == (one,)
    pool = settings.make("quick", {"context": f"{one},{other.context[0]}"})
    assert pool.context == (one, *other.context)
    assert settings.make("quick", {"context": ["none"]}) == plain


def test_none_takes_a_suites_own_context_away(tmp_path):
    file = tmp_path / "told.toml"
    mine = written(tmp_path, "mine.txt")
    file.write_text(f'methods = ["opcd"]\ntasks = ["rule_math"]\ncontext = "{mine}"\n')
    assert settings.make(str(file), {}).context == (mine,)
    assert settings.make(str(file), {}).name == "told"
    assert settings.make(str(file), {"context": ["none"]}).context == ()


@pytest.mark.parametrize("text", [3, None, b"rules", "half a \ud83d surrogate"])
def test_a_context_that_is_no_text_is_refused_where_it_is_made(text):
    with pytest.raises(DataError, match="a context is no text"):
        Context(text)


def test_how_much_of_it_is_false_is_no_part_of_what_a_context_is():
    assert Context("rules", false_share=0.5) == Context("rules")
    assert Context("rules", false_share=0.5).hash == Context("rules").hash
    with pytest.raises(ValueError, match="from 0 to 1, not 50"):
        Context("rules", false_share=50)
