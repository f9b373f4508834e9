"""`opcd-bench estimate`: the options of run, tables for people, JSON for programs."""

from __future__ import annotations

import inspect
import json

from small_data import write_jsonl

from opcd_bench.cli import estimate, run
from opcd_bench.config.suite import Suite
from opcd_bench.runner import registry

QUICK = ("estimate", "--suite", "quick")


def test_its_options_are_those_of_run():
    theirs = set(inspect.signature(run.run).parameters) - {"dry_run", "report"}
    assert set(inspect.signature(estimate.estimate).parameters) == theirs | {"measure"}
    apart = {
        "context",
        "suite",
        "size",
        "assignments",
        "contexts",
        "entrant",
        "cluster_set",
        "json",
    }
    unknown = theirs - apart - set(Suite.model_fields)
    assert not unknown, f"{unknown}: suite_of takes an option of run for a setting of its name"


def test_it_prints_tokens_memory_and_how_to_get_the_time(opcd):
    shown = opcd(*QUICK)
    assert shown.code == 0, shown.err
    assert "micro-small: 1,095,360 parameters, trained: all" in shown.out
    row = next(line for line in shown.out.splitlines() if "at most  4" in line)
    # 20 steps of 32 replies of 224 tokens; two methods write themselves, three read a teacher
    assert row.split()[-6:-1] == ["80", "286,720", "143,360", "430,080", "573,440"]
    for words in ("keys and values of the context", "at most while training: ", "add --measure 3"):
        assert words in shown.out


def test_json_has_the_same_numbers_and_settings_are_taken_as_run_takes_them(opcd):
    shown = opcd(*QUICK, "--json", "--max-steps", "10", "--set", "lora_rank=4", "--methods", "opcd")
    found = json.loads(shown.out)
    assert found["at_most"]["trained"] == 10 * 32 * 224
    assert found["model"]["adapter"] > 0 and found["seconds"] is None
    names = [part["name"] for part in found["tasks"][0]["parts"]]
    assert "adapter" in names and "frozen teacher" not in names


def test_a_word_that_run_refuses_is_refused_alike(opcd):
    told = [opcd(*words, "--set", "batch_sise=3") for words in (QUICK, ("run", *QUICK[1:]))]
    assert told[0].code == 2 and told[0].err == told[1].err
    assert opcd("estimate").code == 2


def test_test_questions_that_train_asks_too_are_told_by_estimate_and_tasks(opcd, tmp_path):
    for split in ("train", "test"):  # the same but for a mark, which is no other question
        mark = "!" if split == "test" else ""
        rows = [{"question": f"How many are {i} cows{mark}", "answer": f"#### {i}"}
                for i in range(40)]  # fmt: skip
        write_jsonl(tmp_path / "gsm8k" / f"{split}.jsonl", rows)
    kept = len(registry.task("gsm8k", data_dir=str(tmp_path)).examples("train"))  # dev has others
    told = f"gsm8k: {kept} of 40 test questions are in train word for word ({kept})"
    shown = opcd(*QUICK, "--tasks", "gsm8k", "--data-dir", str(tmp_path))
    assert shown.code == 0 and f"Note: {told}" in shown.out, shown.err
    assert told in opcd("tasks", "--data-dir", str(tmp_path)).out
    found = json.loads(opcd("tasks", "--json", "--data-dir", str(tmp_path)).out)["tasks"]
    overlaps = {row["name"]: row["overlap"] for row in found}
    assert overlaps["gsm8k"] == {"same": kept, "near": kept, "of": 40} and 0 < kept < 40
    assert overlaps["rule_math"] is None, "no words tell its questions apart"
