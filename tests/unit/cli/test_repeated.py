"""An option that is given twice: never the last one alone, silently."""

import json

import pytest

RUN = ("run", "--suite", "quick", "--dry-run")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            (*RUN, "--methods", "opcd", "--methods", "jsd"),
            "--methods is given twice; write --methods opcd,jsd",
        ),
        (
            (*RUN, "--methods", "opcd[k=4]", "--methods=jsd"),
            "--methods is given twice; write --methods 'opcd[k=4],jsd'",
        ),
        (
            (*RUN, "--tasks", "rule_math", "--tasks", "frozen_lake"),
            "--tasks is given twice; write --tasks rule_math,frozen_lake",
        ),
        (
            (*RUN, "--learning-rate", "1e-4", "--learning-rate", "1e-3", "--learning-rate", "1e-2"),
            "--learning-rate is given 3 times; write --learning-rate 1e-4,1e-3,1e-2",
        ),
        ((*RUN, "--name", "a", "--name", "b"), "--name is given twice (a, b); give one"),
        ((*RUN, "--suite", "micro"), "--suite is given twice (quick, micro); give one"),
        ((*RUN, "--dry-run"), "--dry-run is given twice; give one, once"),
        ((*RUN, "--report", "--no-report"), "--report and --no-report are given; give one, once"),
        (
            (*RUN, "--set", "max_steps=3", "--set", "max_steps=5"),
            "--set max_steps is given twice (3, 5); give one",
        ),
        (
            (*RUN, "--max-steps", "3", "--set", "max_steps=5"),
            "max_steps is given as --max-steps and as --set max_steps; give one of them",
        ),
        (
            ("probe", "prefix", "--model", "micro-small", "--task", "a", "--set", "tasks=b"),
            "tasks is given as --task and as --set tasks; give one of them",
        ),
        (
            (*RUN, "--set", "entrants={}", "--entrant", "a=b"),
            "entrants is given as --entrant and as --set entrants; give one of them",
        ),
        (
            (*RUN, "--cluster", "slurm", "--cluster-set", "cpus=1", "--cluster-set", "cpus=2"),
            "--cluster-set cpus is given twice (1, 2); give one",
        ),
        (
            ("estimate", "--methods", "opcd", "--tasks", "rule_math", "--methods", "jsd"),
            "--methods is given twice; write --methods opcd,jsd",
        ),
        (
            ("extract", "--tasks", "rule_math", "--out", "o", "--items", "3", "--set", "items=4"),
            "items is given as --items and as --set items; give one of them",
        ),
        (
            ("probe", "prefix", "--model", "micro-small", "--tasks", "a", "--task", "b"),
            "--tasks and --task are given; write --tasks a,b",
        ),
        (("methods", "--json", "--json"), "--json is given twice; give one, once"),
    ],
)
def test_what_is_given_twice_is_refused_with_what_to_type(opcd, tmp_path, words, told):
    shown = opcd(*words)
    assert (shown.code, shown.err, shown.out) == (2, f"opcd-bench: {told}\n", "")
    assert list(tmp_path.iterdir()) == []


def test_what_is_declared_repeatable_may_be_given_often(opcd, tmp_path):
    (tmp_path / "a.txt").write_text("Rule one.")
    (tmp_path / "b.txt").write_text("Rule two.")
    words = ("--set", "eval_steps=3", "--set", "batch_size=4", "--name", "--set")
    shown = opcd(*RUN, "--json", "--context", "a.txt", "--context", "b.txt", *words[:4])
    suite = json.loads(shown.out)["suite"]
    assert (suite["eval_steps"], suite["batch_size"]) == (3, 4)
    assert suite["context"] == ["a.txt", "b.txt"]
    assert "--name is given" not in opcd(*RUN, *words).err, "a value is no option"
