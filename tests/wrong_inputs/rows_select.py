"""Wrong words of ``select``; refused before a model is loaded, and nothing is written."""

import os

from row import Row

BASE = ("select", "--task", "rule_math", "--contexts", "pool")
POOL = {"pool/a.txt": "add first", "pool/b.txt": "add last"}
LONG = "x" * 300


def wrong(*more, said, files=None):
    return Row((*BASE, *more), said, {**POOL, **(files or {})})


COUNTS = ("first-items", "dev-items", "batch-size", "threads", "max-completion-length")
ROWS = [
    wrong(f"--{option}", value, said=(f"  {option.replace('-', '_')}: ", "from 1 to"))
    for option in COUNTS
    for value in ("0", "-5", "9" * 20)
]
ROWS += [
    wrong(f"--{option}", value, said=(f"--{option}", "Invalid value"))
    for option in COUNTS
    for value in ("many", "")
]
ROWS += [
    wrong("--seed", "-1", said=("seed: must be 0 or more",)),
    wrong("--seed", "9" * 30, said=("seed: must be below", "allowed")),
    wrong("--seed", "x", said=("--seed", "Invalid value")),
    wrong("--temperature", "-1", said=("temperature: must be 0 or more",)),
    wrong("--temperature", "inf", said=("temperature: must be a finite number",)),
    wrong("--temperature", "nan", said=("temperature: must be a finite number",)),
    wrong("--top-p", "0", said=("top_p: ", "above 0, at most 1")),
    wrong("--top-p", "2", said=("top_p: ", "above 0, at most 1")),
    wrong("--top-k", "-1", said=("top_k: ", "from 0 to 1,000,000")),
    wrong("--device", "mps", said=("device: ", "auto, cpu, cuda")),
    wrong("--select", "worst", said=("select: ", "first-N")),
    wrong("--select", "first-0", said=("select: ", "first-N")),
    wrong("--select", "first-3", said=("there are only 2 contexts",)),
    wrong("--select", "", said=("select: ",)),
    wrong("--select", "BEST", said=("select: ",)),
    wrong("--max-completion-length", "99999", said=("max_completion_length = 99999", "below 2048")),
    wrong("--model", "./none", said=("model folder ./none does not exist",)),
    wrong("--out", "pool", said=("is a folder", "--out")),
    wrong(
        "--out", "mine.json", said=("not chosen by opcd-bench select",), files={"mine.json": "{}"}
    ),
    wrong("--out", "mine.txt", said=("not chosen by opcd-bench",), files={"mine.txt": "thesis"}),
    wrong("--out", "mine.txt/a.json", said=("mine.txt",), files={"mine.txt": "thesis"}),
    wrong("--out", LONG, said=("File name too long",)),
    Row("select --task rule_math", ("--contexts",)),
    Row(("select", "--task", "rule_math", "--contexts", "none"), ("there is no such folder",)),
    Row(("select", "--task", "rule_math", "--contexts", LONG), ("File name too long",)),
    Row(BASE, ("is a file, not a folder",), {"pool": "mine"}),
    Row(BASE, ("is a file, not a folder",), {"pool": os.mkfifo}),
    Row(BASE, ("holds no context",), {"pool/a.md": "mine"}),
    Row(BASE, ("it is empty",), {"pool/a.txt": " \n"}),
    Row(BASE, ("not valid JSON",), {"pool/a.json": "{"}),
    Row(BASE, ("levels deep",), {"pool/a.json": "[" * 100_000}),
    Row(BASE, ("too many digits",), {"pool/a.json": '{"version": ' + "9" * 5000 + "}"}),
]
