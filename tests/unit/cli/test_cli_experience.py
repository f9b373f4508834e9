"""`extract` and `select` on the command line: words, messages and exit codes."""

import json
import types

import pytest
from scripted import reader

from opcd_bench.envs import context_file
from opcd_bench.envs.context_file import ContextFile
from opcd_bench.experience import reader as readers
from opcd_bench.runner import registry


def answer(prompt, seed):
    if "Write the lessons" in prompt:
        return "- EXPERIENCE ITEM: op@ a + b"
    return "Answer: 3"


@pytest.fixture
def model(monkeypatch, tiny_loaded):
    """A scripted model in every model's place; ``opened`` keeps what it was opened with."""
    found = types.SimpleNamespace(opened=[], settings={}, answer=answer)

    def opened(settings, date=None):
        found.opened.append(settings)
        found.reader = reader(tiny_loaded, found.answer, **found.settings)
        return found.reader

    monkeypatch.setattr(readers, "opened", opened)
    return found


EXTRACT = ["extract", "--task", "rule_math", "--out", "contexts/a", "--items", "2", "--seeds", "2"]


def test_an_extraction_prints_its_figures_and_what_to_type_next(opcd, model, tmp_path):
    told = opcd(*EXTRACT, "--batch-size", "7", "--device", "cpu", "--threads", "2")
    assert told.code == 0, told.err
    settings = {
        "model": "micro-small", "revision": None, "device": "cpu", "dtype": "auto", "batch_size": 7,
        "threads": 2, "engine": "hf", "vllm_url": None, "enable_thinking": False,
        "trust_remote_code": False,
    }  # fmt: skip
    (opened,) = model.opened
    assert {name: getattr(opened, name) for name in settings} == settings
    rows = [line.split() for line in told.out.splitlines()[2:4]]
    assert [row[-1] for row in rows] == [f"contexts/a/memoryless/s00{i}.json" for i in range(2)]
    assert rows[0][:4] == ["0", "2", "2", "1"], "seed, read, items, kept"
    assert (
        "opcd-bench select --tasks rule_math --model micro-small --contexts contexts/a/memoryless"
        in told.out
    )
    assert "--context contexts/a/memoryless/s000.json" in told.out
    context = context_file.read(tmp_path / "contexts/a/memoryless/s001.json")
    assert context.items == ("op@ a + b",)
    again = opcd(*EXTRACT, "--json")
    assert json.loads(again.out)["contexts"][1]["context"] == "contexts/a/memoryless/s001.json"
    assert model.reader.engine.asked == []


def test_a_stage_that_is_the_last_says_how_to_go_on(opcd, model):
    told = opcd(*EXTRACT, "--until", "items")
    assert told.code == 0
    assert told.out == "items are in contexts/a; to continue, leave out --until items\n"


def test_an_interrupted_extraction_says_what_to_type_and_goes_on(opcd, model):
    model.settings = {"stop_after": 5}
    told = opcd(*EXTRACT)
    assert told.code == 130
    assert f"type the same command again:\n  opcd-bench {' '.join(EXTRACT)}" in told.err
    assert "Traceback" not in told.err
    model.settings = {}
    assert opcd(*EXTRACT).code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--variant", "memoryles"], "did you mean 'memoryless'?"),
        (["--accumulate", "oldest"], "accumulate: must be 'newest', 'newest-with-repeats' or"),
        (["--until", "contxts"], "Did you mean 'contexts'?"),
        (["--prompts", "own"], "prompts: must be 'auto', 'micro' or 'general' (given: 'own')"),
        (["--items", "0"], "items: must be 1 or more; allowed: from 1 to 1,000,000 (given: 0)"),
        (["--temperature", "-1"], "temperature: must be 0 or more (given: -1.0)"),
        (["--max-context-tokens", "0"], "max_context_tokens: must be 1 or more"),
        (["--items", "0", "--top-p", "0"], "2 settings cannot be used"),
        (["--task", "rule_maths"], "unknown task 'rule_maths'"),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(opcd, tmp_path, words, told):
    pairs = dict(zip(EXTRACT[1::2], EXTRACT[2::2], strict=True))
    pairs |= dict(zip(words[::2], words[1::2], strict=True))
    answered = opcd("extract", *(word for pair in pairs.items() for word in pair))
    assert answered.code == 2
    assert told in answered.err and answered.err.startswith("opcd-bench: ")
    assert "Traceback" not in answered.err and answered.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_writes_no_lessons_is_told_where_to_look(opcd, model):
    model.answer = lambda prompt, seed: "I have learnt a lot."
    told = opcd(*EXTRACT)
    assert told.code == 2
    assert "contexts/a/memoryless/reflections" in told.err


def test_a_selection_prints_scores_costs_and_the_line_for_a_suite(opcd, model, tmp_path):
    task = registry.task("rule_math")
    own = task.context().text
    right = {task.open(e, 0).messages[-1]["content"]: e.reference for e in task.examples("dev")}
    for name, text in (("a", "op@ none"), ("b", own)):
        context_file.write(tmp_path / "c" / f"{name}.json", ContextFile(text))

    def right_if_told(prompt, seed):
        (answer,) = (right[asked] for asked in right if f"user\n{asked}<" in prompt)
        return f"Answer: {answer}" if own in prompt else "Answer: 999"

    model.answer = right_if_told
    told = opcd("select", "--task", "rule_math", "--contexts", "c", "--first-items", "4",
                "--dev-items", "8", "--temperature", "0.5")  # fmt: skip
    assert told.code == 0, told.err
    lines = told.out.splitlines()
    assert lines[0].split() == ["context", "4", "dev", "8", "dev"]
    assert [line.split() for line in lines[2:5]] == [
        ["a.json", "0.0", "–"], ["b.json", "100.0", "100.0"], ["(none)", "–", "0.0"]
    ]  # fmt: skip
    assert lines[-3].startswith("20 samples scored (every context on every example would be 16), ")
    assert lines[-2:] == ["chosen: b.json", 'In a suite: context = "c/selected/best.json"']
    pool = opcd("select", "--task", "rule_math", "--contexts", "c", "--select", "first-2", "--json")
    assert json.loads(pool.out)["contexts"] == [
        "c/selected/first-2.1.json", "c/selected/first-2.2.json"
    ]  # fmt: skip
    assert len(model.opened) == 1, "what scores nothing loads no model"


def test_an_interrupted_selection_says_what_to_type(opcd, model, tmp_path):
    for name in ("a", "b"):
        context_file.write(tmp_path / "c" / f"{name}.json", ContextFile(f"op@ {name}"))
    model.settings = {"stop_after": 2}
    told = opcd("select", "--task", "rule_math", "--contexts", "c")
    assert told.code == 130 and "opcd-bench select --task rule_math --contexts c" in told.err


def test_a_run_takes_contexts_on_the_command_line(opcd, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"rule {name}")
    words = ["run", "--suite", "quick", "--methods", "opcd", "--dry-run", "--json"]
    cells = [
        json.loads(opcd(*words, *more).out)
        for more in ([], ["--context", "a.txt"], ["--context", "a.txt", "--context", "b.txt"],
                     ["--context", "none"])
    ]  # fmt: skip
    hashes = [answer["cells"][0]["hash"] for answer in cells]
    assert len(set(hashes)) == 3 and hashes[0] == hashes[3]
    assert cells[2]["suite"]["context"] == ["a.txt", "b.txt"]
    assert [answer["suite"]["name"] == "quick" for answer in cells] == [True, False, False, True]
    told = opcd(*words, "--context", "c.txt")
    assert told.code == 2 and "context 'c.txt': there is no such file" in told.err


def test_a_server_without_its_engine_and_an_unknown_engine_are_refused(opcd):
    refused = opcd("extract", "--task", "rule_math", "--out", "made", "--vllm-url", "http://x")
    assert refused.code == 2 and "add --engine vllm" in refused.err
    refused = opcd("select", "--task", "rule_math", "--contexts", "made", "--engine", "vlm")
    assert refused.code == 2 and "did you mean 'vllm'?" in refused.err
