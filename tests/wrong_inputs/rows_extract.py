"""Wrong words of ``extract``; refused before a model is loaded, and nothing is written."""

import os

from row import Row

BASE = ("extract", "--task", "rule_math", "--out", "made")
LONG = "x" * 300


def bound(option, value, said):
    return Row((*BASE, f"--{option}", value), (f"  {option.replace('-', '_')}: ", said))


def typed(option, value):
    return Row((*BASE, f"--{option}", value), (f"--{option}", "Invalid value"))


COUNTS = ("items", "seeds", "max-context-tokens", "max-reflection-length", "batch-size", "threads",
          "max-completion-length")  # fmt: skip
ROWS = [bound(option, value, "from 1 to") for option in COUNTS for value in ("0", "-5", "9" * 20)]
ROWS += [typed(option, value) for option in COUNTS for value in ("many", "", "1.5")]
ROWS += [
    bound("temperature", "-1", "must be 0 or more"),
    bound("temperature", "inf", "finite"),
    bound("temperature", "nan", "finite"),
    typed("temperature", "hot"),
    typed("temperature", ""),
    bound("reflect-temperature", "-0.5", "must be 0 or more"),
    bound("reflect-temperature", "inf", "finite"),
    bound("reflect-temperature", "nan", "finite"),
    typed("reflect-temperature", "hot"),
    typed("reflect-temperature", ""),
    bound("top-p", "0", "above 0, at most 1"),
    bound("top-p", "1.5", "above 0, at most 1"),
    bound("top-p", "nan", "above 0, at most 1"),
    bound("top-p", "inf", "above 0, at most 1"),
    typed("top-p", "all"),
    bound("top-k", "-1", "from 0 to 1,000,000"),
    bound("top-k", "9999999", "from 0 to 1,000,000"),
    typed("top-k", "all"),
    bound("device", "meta", "auto, cpu, cuda"),
    bound("device", "mps", "auto, cpu, cuda"),
    bound("device", "toaster", "auto, cpu, cuda"),
    bound("engine", "tpu", "must be 'hf' or 'vllm'"),
    bound("variant", "memoryles", "did you mean 'memoryless'?"),
    bound("accumulate", "oldest", "'newest'"),
    bound("prompts", "own", "'general'"),
    bound("dtype", "int8", "'bfloat16'"),
    bound("model", "", "must not be empty"),
    Row((*BASE, "--items", "999999999"), ("items", "from 1 to 1,000,000")),
    Row((*BASE, "--items", "1000000", "--seeds", "2"), ("items x seeds", "1,000,000")),
    Row(
        (*BASE, "--max-completion-length", "99999"), ("max_completion_length = 99999", "below 2048")
    ),
    Row((*BASE, "--max-reflection-length", "2048"), ("max_reflection_length = 2048", "below 2048")),
    Row((*BASE, "--until", "contxts"), ("Did you mean 'contexts'",)),
    Row((*BASE, "--vllm-url", "http://localhost:1"), ("add --engine vllm",)),
    Row((*BASE, "--model", "./none"), ("model folder ./none does not exist",)),
    Row((*BASE, "--model", f"./{LONG}"), ("File name too long",)),
    Row((*BASE, "--model", "a/b/c"), ("a/b/c",)),
    Row("extract --out made", ("--task",)),
    Row("extract --task rule_math", ("--out",)),
    Row("extract --task rule_maths --out made", ("Did you mean 'rule_math'",)),
    Row(("extract", "--task", "rule_math", "--out", LONG), ("File name too long",)),
    Row(("extract", "--task", f"./{LONG}.py", "--out", "made"), ("File name too long",)),
    Row(
        ("extract", "--task", "gsm8k", "--data-dir", LONG, "--out", "made"), ("File name too long",)
    ),
    Row(BASE, ("is a file", "--out"), {"made": "mine"}),
    Row(BASE, ("no traces.json of ours", "--out"), {"made/thesis.tex": "mine"}),
    Row(BASE, ("no traces.json of ours",), {"made/traces.json": "{}"}),
    Row(BASE, ("damaged",), {"made/traces.json": "{"}),
    Row(BASE, ("--out",), {"made": os.mkfifo}),
    Row(("extract", "--task", "rule_math", "--out", "notes/made"), ("notes",), {"notes": "mine"}),
    Row(("extract", "--task", "rule_math", "--out", "a\udcff"), ("surrogate",)),
]
