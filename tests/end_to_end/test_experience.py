"""The whole loop with the built-in model: attempts, lessons, a chosen context, a distilled cell."""

import json

import pytest
from command_line import opcd

from opcd_bench.envs import context_file
from opcd_bench.envs.task import Context, Contexts
from opcd_bench.models.loading import load
from opcd_bench.store.run_reader import RunReader

EXTRACT = ["extract", "--task", "rule_math", "--items", "6", "--seeds", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """Two contexts of six attempts each, in ``rule_math/memoryless``."""
    folder = tmp_path_factory.mktemp("contexts") / "rule_math"
    assert opcd(*EXTRACT, "--out", str(folder)) == 0
    return folder


def stages(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*.json*")
        if "selected" not in path.parts
    }


def test_the_built_in_model_learns_rules_from_its_own_attempts(contexts):
    """Its lessons are in the words of the context that it never read."""
    from opcd_bench.runner import registry

    truth = registry.task("rule_math").context().text
    items = [context_file.read(path).items for path in sorted(contexts.glob("memoryless/*.json"))]
    assert len(items) == 2 and all(items)
    lessons = [item for of_seed in items for item in of_seed]
    assert sum(lesson in truth for lesson in lessons) / len(lessons) > 0.5


def test_the_same_command_makes_the_same_bytes(contexts, tmp_path):
    assert opcd(*EXTRACT, "--out", str(tmp_path / "again")) == 0
    assert stages(tmp_path / "again") == stages(contexts)


def test_raw_traces_and_lessons_with_earlier_ones_come_from_the_same_attempts(contexts):
    before = stages(contexts)
    for variant in ("raw-traces", "with-previous"):
        assert opcd(*EXTRACT, "--out", str(contexts), "--variant", variant) == 0
        made = context_file.read(contexts / variant / "s000.json")
        assert made.provenance["variant"] == variant and made.items
    assert {name: data for name, data in stages(contexts).items() if name in before} == before


def test_a_game_is_learnt_from_what_the_environment_said(tmp_path):
    words = ["extract", "--task", "frozen_lake", "--items", "4", "--seeds", "1", "--device", "cpu"]
    assert opcd(*words, "--out", str(tmp_path)) == 0
    lines = (tmp_path / "memoryless/reflections/s000.jsonl").read_text().splitlines()
    asked = [json.loads(line)["messages"][-1]["content"] for line in lines]
    assert len(asked) == 4 and all("FEEDBACK\n" in text for text in asked)
    assert context_file.read(tmp_path / "memoryless/s000.json").items


def test_any_other_model_is_asked_in_general_words_and_a_paper_game_is_told_inside(tmp_path):
    words = ["extract", "--task", "frozen_lake_paper", "--prompts", "general", "--items", "2",
             "--seeds", "1", "--device", "cpu", "--max-reflection-length", "32",
             "--until", "items", "--max-completion-length", "32"]  # fmt: skip
    assert opcd(*words, "--out", str(tmp_path)) == 0
    (first, _) = (tmp_path / "memoryless/reflections/s000.jsonl").read_text().splitlines()
    asked = json.loads(first)["messages"][0]["content"]
    assert asked.startswith("You played a game") and "Turn 1, what you saw:\nYou are" in asked
    settings = json.loads((tmp_path / "memoryless.json").read_text())
    assert settings["prompts"]["placement"] == "inside"


def test_one_is_chosen_on_dev_and_a_pool_is_distilled(contexts, tmp_path):
    folder = str(contexts / "memoryless")
    assert opcd("select", "--task", "rule_math", "--contexts", folder, "--device", "cpu",
                "--first-items", "4", "--dev-items", "8") == 0  # fmt: skip
    pool = sorted(contexts.glob("memoryless/s*.json"))
    texts = {context_file.read(path).text for path in pool}
    assert context_file.read(contexts / "memoryless" / "selected" / "best.json").text in texts
    told = [word for path in pool for word in ("--context", str(path))]
    run = ["run", "--suite", "quick", "--methods", "sft_context", "--retention", "none",
           "--max-steps", "1", "--batch-size", "8", "--output-dir", str(tmp_path), "--device",
           "cpu", "--set", "dev_items=4", "--set", "test_items=8", "--jobs", "1",
           "--no-report", "--name", "pool"]  # fmt: skip
    assert opcd(*run, *told) == 0
    (cell,) = (tmp_path / "pool").glob("rule_math--sft_context--*")
    assert RunReader(cell).sealed
    micro = load("micro-small", device="cpu")
    assert {system_message(micro, row) for row in told_rows(tmp_path / "pool")} == texts
    pooled = Contexts(tuple(Context(text) for text in texts))
    stored = json.loads((cell / "config.json").read_text())["task"]["context_hash"]
    assert stored == pooled.hash


def told_rows(suite):
    """What the told teacher wrote in the first step."""
    (file,) = suite.glob("shared/told-rule_math--*/step_000001.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def system_message(loaded, row):
    """What stood in the system message of a reply's prompt, read off its token ids."""
    prompt = loaded.tokenizer.decode(row["turns"][0]["prompt_ids"])
    return prompt.split("system\n", 1)[1].split("<|im_end|>")[0]
