"""Files that cannot be used: suites in TOML, contexts, data, lm-eval's documents, models."""

import json
import os
import shutil
from pathlib import Path

from row import Row

from opcd_bench.models import micro

SUITE = 'methods = ["opcd"]\ntasks = ["rule_math"]\n'
DRY = ("run", "--suite", "./mine.toml", "--dry-run")
LONG = "x" * 300


def device(path):
    os.symlink("/dev/zero", path)


def folder(path):
    path.mkdir()


def suite(content, *words, typed=DRY):
    return Row(typed, ("mine.toml", *words), {"mine.toml": content})


SUITES = [
    suite("methods = [", "not valid TOML"),
    suite(b"\xff\xfe", "not UTF-8 (byte 0)", "save it as UTF-8"),
    suite(SUITE.encode("utf-16"), "not UTF-8"),
    suite("x = " + "[" * 5000, "nested more than 100 levels"),
    suite("x = " + "[" * 200 + "]" * 200, "nested more than 100 levels"),
    suite("a" + ".a" * 5000 + " = 1", "nested more than 100 levels"),
    suite("max_steps = " + "9" * 5000, "too many digits"),
    suite("max_steps = 0x" + "f" * 5000, "max_steps", "too large to be shown"),
    suite(SUITE + "max_steps = " + "9" * 400, "from 0 to 1,000,000"),
    suite(SUITE + "name = 'a\0b'", "not valid TOML"),
    suite(SUITE + 'output_dir = "a\\u0000b"', "NUL"),
    suite(SUITE + "max_step = 3", "did you mean 'max_steps'"),
    suite(SUITE + "sizes = 3", "one table per size"),
    suite(SUITE + "[sizes]\nsmoke = 3", "[sizes.smoke]"),
    suite(SUITE + '[sizes.smoke]\nname = "x"', "a size cannot have a name"),
    suite(SUITE + "[experience]\nitems = inf", "experience.items", "from 1 to 1,000,000"),
    suite("", "methods: missing", "tasks: missing"),
    suite(os.mkfifo, "is a pipe or a device"),
    suite(device, "is a pipe or a device"),
    suite(folder, "is a folder, not a file"),
    suite(os.mkfifo, "is a pipe or a device", typed=("estimate", "--suite", "./mine.toml")),
    suite(folder, "is a folder", typed=("run", "--suite", "./mine.toml")),
]


def context(content, *words, name="c.json"):
    typed = ("run", "--suite", "quick", "--context", name, "--dry-run")
    return Row(typed, (name, *words), {name: content})


CONTEXTS = [
    context("{", "not valid JSON", 'A context is {"version": 1, "text": "…"'),
    context("[" * 100_000, "nested more than 100 levels"),
    context("[" * 200 + "]" * 200, "nested more than 100 levels"),
    context('{"version": ' + "9" * 5000 + "}", "too many digits"),
    context('{"version": 1, "text": "a\\ud800"}', "half a surrogate pair (U+D800)"),
    context("[]", "it holds a list"),
    context("null", "it holds a NoneType"),
    context("{}", "its version is None"),
    context('{"version": 1}', 'it has no "text"'),
    context('{"version": 1, "text": "a", "placement": []}', "placement is []"),
    context('{"version": 1, "text": "a", "txt": 1}', "'txt'"),
    context('{"version": 1, "text": "a", "items": 3}', '"items" is not a list'),
    context(b"\xff", "not UTF-8", name="c.txt"),
    context("", "it is empty", name="c.txt"),
    context("a\0b", "U+0000", name="c.txt"),
    context(os.mkfifo, "is a pipe or a device", name="c.txt"),
    context(device, "is a pipe or a device", name="c.txt"),
    context(folder, "is a folder, not a file", name="c.txt"),
]


def gsm8k(train, *words, test=None, file="gsm8k/train.jsonl"):
    good = json.dumps({"question": "How many?", "answer": "Two.\n#### 2"})
    typed = ("run", "--methods", "opcd", "--tasks", "gsm8k", "--data-dir", "data", "--dry-run")
    return Row(typed, words, {f"data/{file}": train, "data/gsm8k/test.jsonl": test or good})


def row(**values):
    return json.dumps({"question": "Q?", "answer": "#### 3", **values}) + "\n"


DATA = [
    gsm8k(row() + "{", "train.jsonl, line 2", "not valid JSON"),
    gsm8k(row() + "[" * 100_000, "train.jsonl, line 2", "nested more than 100 levels"),
    gsm8k(row() + '{"n": ' + "9" * 5000 + "}", "train.jsonl, line 2", "too many digits"),
    gsm8k(
        row() + '{"question": "a\\ud800", "answer": "#### 1"}', "line 2", "half a surrogate pair"
    ),
    gsm8k(row() + "3", "train.jsonl, line 2", "a row must be a JSON object"),
    gsm8k(row() + '{"q": 1}', "train.jsonl, line 2", "no column 'question'; it has q"),
    gsm8k(row() + '{"question": "Why?"}', "train.jsonl, line 2", "no column 'answer'"),
    gsm8k(row() + row(question="R?", answer="three"), "train.jsonl, line 2", "ends in '#### '"),
    gsm8k("[" * 100_000, "nested more than 100 levels", file="gsm8k/train.json"),
    gsm8k("[3]", "train.json, row 1", "a row must be a JSON object", file="gsm8k/train.json"),
    gsm8k(b"\xff\xfe", "train.jsonl: cannot be read"),
    gsm8k("question\nQ?\n", "train.csv, line 2", "no column 'answer'", file="gsm8k/train.csv"),
    gsm8k("question,answer\nQ?\n", "train.csv, line 2", "2 columns", file="gsm8k/train.csv"),
    gsm8k(b"PAR1", "cannot be read as Parquet", file="gsm8k/train.parquet"),
    gsm8k(os.mkfifo, "train.jsonl: is a pipe or a device"),
    gsm8k(device, "train.jsonl: is a pipe or a device"),
    gsm8k("", "no row is left"),
    gsm8k(row(), "no file of the train split", file="gsm8k/trian.jsonl"),
    gsm8k(row(), "both hold the train split", file="gsm8k/train.json"),
]
DATA[-1].files["data/gsm8k/train.jsonl"] = row()


def model(changes, *words, file="config.json"):
    """The built-in model with something wrong in one of its files."""

    def make(path):
        shutil.copytree(Path(micro.path()), path)
        place = path / file
        if isinstance(changes, dict):
            place.write_text(json.dumps({**json.loads(place.read_text()), **changes}))
        elif changes is None:
            place.unlink()
        else:
            place.write_text(changes)

    typed = ("run", "--suite", "quick", "--model", "./model", "--dry-run")
    return Row(typed, ("model", *words), {"model": make})


GENERATION = "generation_config.json"
MODELS = [
    model({"eos_token_id": "x"}, "eos_token_id must be a token's number", "'x'"),
    model({"eos_token_id": ["x"]}, "eos_token_id must be a token's number"),
    model({"eos_token_id": -3}, "eos_token_id must be a token's number", "-3"),
    model({"num_attention_heads": 0}, "num_attention_heads must be a whole number above 0"),
    model({"num_hidden_layers": -1}, "num_hidden_layers must be a whole number above 0"),
    model({"hidden_size": "big"}, "hidden_size must be a whole number above 0"),
    model({"max_position_embeddings": "big"}, "max_position_embeddings must be a whole"),
    model("[]", "it holds a list, not an object"),
    model("{", "not valid JSON"),
    model("[" * 100_000, "nested more than 100 levels"),
    model('{"vocab_size": ' + "9" * 5000 + "}", "too many digits"),
    model(None, "has no config.json"),
    model(None, "no *.safetensors", file="model.safetensors"),
    model(None, "has no tokenizer", file="tokenizer.json"),
    model({"eos_token_id": "x"}, GENERATION, "eos_token_id must be", file=GENERATION),
    model("[]", GENERATION, "it is no object", file=GENERATION),
    Row(("run", "--suite", "quick", "--model", "./model", "--dry-run"), ("is a file",),
        {"model": "weights"}),
    Row(("run", "--suite", "quick", "--model", "./model", "--dry-run"), ("is a file",),
        {"model": os.mkfifo}),
    Row(("estimate", "--suite", "quick", "--model", "./model"), ("has no config.json",),
        {"model/readme": "mine"}),
    Row(("extract", "--task", "rule_math", "--out", "made", "--model", "./model"),
        ("has no config.json",), {"model/readme": "mine"}),
]  # fmt: skip

LONG_PATHS = [
    Row(typed, ("File name too long",))
    for typed in (
        ("show", LONG), ("report", LONG), ("verify", LONG), ("compare", LONG, LONG),
        ("contexts", LONG, LONG), ("check", f"{LONG}.py"), ("tasks", "--data-dir", LONG),
        ("show", "quick", "--output-dir", LONG),
        ("import-lm-eval", "a.json", "--suite", LONG, "--name", "x"),
    )
]  # fmt: skip

ROWS = [*SUITES, *CONTEXTS, *DATA, *MODELS, *LONG_PATHS]
