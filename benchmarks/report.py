"""Time the rendering of a large suite made of random scores; prints seconds, memory, a ratio.

python benchmarks/report.py [--methods 10] [--cells 200] [--samples 1000] [--keep FOLDER]

The reference is to read every stored row once as JSON, in the same process just before.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from opcd_bench.hashing import digest
from opcd_bench.runner import registry
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.suite_dir import SuiteDir

RATES = (3e-5, 1e-4, 3e-4, 1e-3)
STEPS, EVERY = 30, 10
RETENTION = {"ifeval_micro": 200, "told_other": 200}
DEV = 150
KINDS = ("keywords:existence", "punctuation:no_comma", "detectable_format:title")
WORDS = "the tide turns and Eva joins seven cards to the eight coins of Leo then counts".split()


def build(folder: Path, methods: int, cells: int, samples: int) -> None:
    """Write the suite ``folder/big`` through the store: ``cells`` sealed runs of one task."""
    draw = random.Random(0)
    chosen = [m for m in registry.methods().values() if not m.control][:methods]
    seeds = max(1, cells // (len(chosen) * len(RATES)))
    suite = SuiteDir(folder / "big")
    names = [method.name for method in chosen]
    suite.merge(
        {"name": "big", "tasks": ["toy"], "methods": names, "learning_rate": list(RATES),
         "seeds": seeds, "model": "micro-small", "floors": {"toy": {"majority answer": 0.1}}}
    )  # fmt: skip
    prompts = {f"t{i:05d}": text(draw, 30) for i in range(samples)}
    anchors = stored_anchors(suite, draw, prompts)
    for method in chosen:
        described = dict(method.describe())
        for rate_at, rate in enumerate(RATES):
            skill = draw.uniform(0.2, 0.3) * (rate_at + 1)
            for seed in range(seeds):
                config = {
                    "suite": {"model": "micro-small", "max_steps": STEPS},
                    "task": {"name": "toy", "version": 1},
                    "method": described,
                    "learning_rate": rate,
                    "seed": seed,
                }
                name = f"toy--{method.name}--lr{rate}--s{seed}--{digest(config)}"
                with RunDir.open(suite.run(name), config, {}) as run:
                    one_run(run, draw, skill, prompts, rate_at, anchors)


def text(draw: random.Random, words: int) -> str:
    """Some words, drawn."""
    return " ".join(draw.choices(WORDS, k=words))


def test_rows(
    draw: random.Random, skill: float, prompts: dict[str, str], reading: str
) -> list[dict[str, Any]]:
    """Final samples of the task."""
    rows = []
    for key, prompt in prompts.items():
        score = float(draw.random() < skill)
        turn = {"messages": [{"role": "user", "content": prompt}], "reply": text(draw, 40)}
        rows.append(
            {"task": "toy", "split": "test", "example_id": key, "sample": 0, "score": score,
             "outcome": "correct" if score else "wrong", "answer": str(draw.randrange(40)),
             "reading": reading, "tokens": 80, "why": "7 @ 8 is 36",
             "turns": [{**turn, "finish": "stop"}]}
        )  # fmt: skip
    return rows


def kept_rows(draw: random.Random, measured: str, skill: float) -> list[dict[str, Any]]:
    """Final samples of a retention task; those of ifeval_micro name their instructions."""
    rows = []
    for at in range(RETENTION[measured]):
        score = float(draw.random() < skill)
        row = {"task": measured, "split": "retention", "example_id": f"{measured[0]}{at:04d}",
               "sample": 0, "score": score, "outcome": "correct" if score else "wrong",
               "prompt": text(draw, 20), "reply": text(draw, 30)}  # fmt: skip
        if measured == "ifeval_micro":
            row |= {"instruction_ids": [KINDS[at % len(KINDS)]],
                    "values": {"inst_level_strict_acc": [bool(score)]}}  # fmt: skip
        rows.append(row)
    return rows


def stored_anchors(
    suite: SuiteDir, draw: random.Random, prompts: dict[str, str]
) -> list[dict[str, str]]:
    """Base, ceiling and base retention, once for all."""
    made = []
    for reading, skill in (("base", 0.05), ("ceiling", 0.95)):
        shared = suite.shared("toy", "k")
        rows = test_rows(draw, skill, prompts, "plain" if reading == "base" else "told")
        shared.put(f"{reading}-test-s0", [{"measured": {}}, *rows])
        made.append({"reading": reading, "shared": shared.path.name, "name": f"{reading}-test-s0"})
    for measured in RETENTION:
        shared = suite.shared(f"retention-{measured}", "k")
        shared.put("base", [{"measured": {}}, *kept_rows(draw, measured, 0.9)])
        made.append({"reading": "base", "shared": shared.path.name, "name": "base"})
    return made


def one_run(
    run: RunDir,
    draw: random.Random,
    skill: float,
    prompts: dict[str, str],
    rate_at: int,
    anchors: list[dict[str, str]],
) -> None:
    """Every row of a finished run."""
    splits = {"toy": ("dev", DEV), **{name: ("retention", n) for name, n in RETENTION.items()}}
    for step in range(1, STEPS + 1):
        run.train(
            {"step": step, "divergence": 0.4 / step, "divergence_kind": "reverse_kl_generalised",
             "reverse_kl": 0.4 / step, "student_entropy": 0.1, "teacher_entropy": 0.05,
             "student_mass": 0.99, "teacher_mass": 0.98, "top_k_overlap": 0.9, "grad_norm": 0.5,
             "reply_length": 60.0 + step, "eos_rate": 0.97, "written_accuracy": step / STEPS,
             "log_ratio": 0.01, "leak": 0.02, "negative_share": 0.1, "learning_rate": 1e-3,
             "student_tokens_trained": 2000 * step, "tokens_written": 2000 * step,
             "teacher_tokens_scored": 2000 * step}
        )  # fmt: skip
        run.timing({"step": step, "seconds_written": 0.7, "seconds_trained": 1.3,
                    "peak_memory_bytes": 4 << 30})  # fmt: skip
    for step in range(0, STEPS + 1, EVERY):
        for measured, (split, n) in splits.items():
            at = skill * step / STEPS if split == "dev" else 0.9 - 0.1 * rate_at * step / STEPS
            scores = [float(draw.random() < at) for _ in range(n)]
            run.samples(f"scores-{measured}-step_{step:06d}",
                        [{"task": measured, "split": split, "scores": scores}])  # fmt: skip
            run.eval({"step": step, "task": measured, "split": split, "metric": "accuracy",
                      "value": sum(scores) / n, "primary": True, "n": n, "n_unscored": 0,
                      "protocol_hash": f"{measured}-{split}", "final": False})  # fmt: skip
    rows = test_rows(draw, skill, prompts, "plain")
    run.samples("test", rows)
    final = {"test": ("toy", rows)}
    for measured in RETENTION:
        kept = kept_rows(draw, measured, 0.9 - 0.1 * rate_at)
        run.samples(f"retention-{measured}", kept)
        final[f"retention-{measured}"] = (measured, kept)
    for name, (measured, rows) in final.items():
        split = name.split("-")[0]
        for metric in ("accuracy", "parse_rate"):
            value = sum(row["score"] for row in rows) / len(rows) if metric == "accuracy" else 1.0
            run.eval({"step": STEPS, "task": measured, "split": split,
                      "metric": metric, "value": value, "primary": metric == "accuracy",
                      "n": len(rows), "n_unscored": 0, "protocol_hash": f"{measured}-{split}",
                      "final": True})  # fmt: skip
    tokens = 2000 * STEPS
    run.seal({"chosen_step": STEPS, "rule": "the last step", "anchors": anchors,
              "tokens_written": tokens, "teacher_tokens_scored": tokens,
              "student_tokens_trained": tokens, "skipped_steps": 0})  # fmt: skip


def measure(root: Path) -> dict[str, float]:
    """Seconds, processor seconds and peak GiB of rendering; seconds of reading all rows once."""
    began = time.perf_counter()
    for path in sorted(root.rglob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            json.loads(line)
    read = time.perf_counter() - began
    from opcd_bench.report.analysis import load
    from opcd_bench.report.page import render

    began, busy = time.perf_counter(), time.process_time()
    results = load.load(root)
    loaded = time.perf_counter() - began
    files = render.render(results, command="a benchmark")
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    megabytes = sum(map(len, files.values())) / 1e6
    return {"read": read, "loaded": loaded, "seconds": seconds, "busy": busy, "peak": peak,
            "files": len(files), "megabytes": megabytes}  # fmt: skip


def main() -> None:
    """Build the suite, render it in a process of its own, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", type=int, default=10)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="Build here, and use it again if it is there.")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.measure:
        print(json.dumps(measure(words.measure)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = words.keep or Path(temporary)
        if not (folder / "big").exists():
            began = time.perf_counter()
            build(folder, words.methods, words.cells, words.samples)
            print(f"built in {time.perf_counter() - began:.0f} s")
        done = subprocess.run(
            [sys.executable, __file__, "--measure", str(folder / "big")],
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        cells = len(SuiteDir(folder / "big").runs())
    found = json.loads(done.stdout)
    print(f"{cells} cells, {words.samples} test samples each, {found['files']:.0f} files, "
          f"{found['megabytes']:.0f} MB")  # fmt: skip
    print(f"rendered in {found['seconds']:.1f} s ({found['busy']:.1f} s of processor time; "
          f"{found['loaded']:.1f} s are loading); peak memory {found['peak']:.2f} GiB")  # fmt: skip
    print(f"rendering / reading every row once = {found['seconds'] / found['read']:.2f} "
          f"({found['read']:.1f} s)")  # fmt: skip


if __name__ == "__main__":
    main()
