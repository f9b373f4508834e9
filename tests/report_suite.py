"""A whole results folder made by hand through the store: every part of a report has data in it."""

from pathlib import Path

from opcd_bench.hashing import digest
from opcd_bench.report.analysis import external
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.suite_dir import SuiteDir

RATES = (1e-4, 1e-3)
METHODS = ("opcd", "forward_kl")
STEPS = (0, 5, 10)
TEST, DEV, KEPT = 20, 10, 16
HOSTILE = "<script>window.hacked = 1</script> & **bold** | $x_1$"
KINDS = ("keywords:existence", "punctuation:no_comma")


def description(name):
    forward = name == "forward_kl"
    return {
        "name": name,
        "writer": {"kind": "teacher" if forward else "student", "teacher_share": float(forward),
                   "path": None},
        "loss": {
            "id": "fkl_topk" if forward else "rkl_trunc_naive", "alpha": None, "baseline": 0.0,
            "beta": None, "clip": None, "estimator": "exact", "gradient": "through",
            "direction": "forward_kl" if forward else "reverse_kl", "importance_weight": False,
            "support": "teacher_top_k" if forward else "student_top_k", "outside": "drop",
            "k": 8, "missing_ids": "refuse",
        },
        "teacher": {"rate": None, "reads": "context", "rows": "aligned", "weights": "initial"},
    }  # fmt: skip


def config(method, rate, seed, **settings):
    return {
        "suite": {"model": "tiny", "max_steps": 10, **settings},
        "task": {"name": "toy", "version": 1},
        "method": description(method),
        "learning_rate": rate,
        "seed": seed,
    }


def score(key, share):
    """Whether an item is right, so that about ``share`` of them are: the same ones every time."""
    return float(int(digest({"item": key}), 16) % 1000 < 1000 * share)


def outcome(value):
    return "correct" if value else "wrong"


def test_rows(key, share, reading="plain"):
    rows = []
    for at in range(TEST):
        value = score(f"test {at} {key}", share)
        prompt = {"role": "user", "content": f"What is {at} ? {HOSTILE if at == 0 else at}"}
        rows.append(
            {"task": "toy", "split": "test", "example_id": f"t{at:02d}", "sample": 0,
             "score": value, "outcome": outcome(value), "answer": str(at), "reading": reading,
             "tokens": 7, "why": f"{at} is {at}",
             "turns": [{"messages": [prompt], "reply": HOSTILE if at == 1 else f"Answer: {at}",
                        "finish": "stop"}]}
        )  # fmt: skip
    return rows


def kept_rows(key, share):
    rows = []
    for at in range(KEPT):
        value = score(f"kept {at} {key}", share)
        rows.append(
            {"task": "ifeval_toy", "split": "retention", "example_id": f"k{at:02d}", "sample": 0,
             "score": value, "outcome": outcome(value), "prompt": f"Write {at}.",
             "reply": f"Here is {at}.", "finish": "stop", "instruction_ids": [KINDS[at % 2]],
             "values": {"inst_level_strict_acc": [bool(value)],
                        "prompt_level_strict_acc": bool(value)}}
        )  # fmt: skip
    return rows


def anchors(suite):
    made = []
    for reading, share in (("base", 0.15), ("ceiling", 0.95)):
        shared = suite.shared("toy", "k")
        shared.put(f"{reading}-test-s0", [{"measured": {}}, *test_rows(reading, share)])
        made.append({"reading": reading, "shared": shared.path.name, "name": f"{reading}-test-s0"})
    shared = suite.shared("retention-ifeval_toy", "k")
    shared.put("base", [{"measured": {}}, *kept_rows("base", 0.9)])
    return [*made, {"reading": "base", "shared": shared.path.name, "name": "base"}]


def begin(suite, settings):
    name = (
        f"toy--{settings['method']['name']}--lr{settings['learning_rate']:g}"
        f"--s{settings['seed']}--{digest(settings)}"
    )
    return RunDir.open(suite.run(name), settings, {"device": "cpu", "versions": {"torch": "2"}})


def train(run, name, steps=10):
    for step in range(1, steps + 1):
        run.train(
            {"step": step, "learning_rate": 1e-3, "divergence": 1 / step, "divergence_kind": name,
             "grad_norm": 0.5, "reply_length": 7.0 + step, "eos_rate": 1 - 0.01 * step,
             "student_entropy": 0.1, "teacher_entropy": 0.05, "written_accuracy": step / 10,
             "student_tokens_trained": 100 * step, "tokens_written": 100 * step,
             "teacher_tokens_scored": 100 * step}
        )  # fmt: skip
        run.timing({"step": step, "seconds_written": 0.5, "seconds_trained": 1.5,
                    "peak_memory_bytes": 1 << 30})  # fmt: skip


def evaluate(run, key, gain, loss):
    for step in STEPS:
        for measured, split, n, share in (
            ("toy", "dev", DEV, 0.15 + gain * step / 10),
            ("ifeval_toy", "retention", KEPT, 0.9 - loss * step / 10),
        ):
            values = [score(f"{split} {at} {key if step else ''}", share) for at in range(n)]
            run.samples(f"scores-{measured}-step_{step:06d}",
                        [{"task": measured, "split": split, "scores": values}])  # fmt: skip
            run.eval({"step": step, "task": measured, "split": split, "metric": "accuracy",
                      "value": sum(values) / n, "primary": True, "n": n, "n_unscored": 0,
                      "protocol_hash": split, "final": False})  # fmt: skip


def finish(suite, method, rate, seed, *, protocol="test", collapsed=None, **settings):
    """A sealed run, whose responses ``collapsed`` at a step; returns its folder."""
    key = f"{method} {rate} {seed}"
    gain, loss = (0.6, 0.4) if rate > 1e-4 else (0.3, 0.1)
    run = begin(suite, config(method, rate, seed, **settings))
    with run:
        train(run, "reverse_kl_generalised" if method == "opcd" else "forward_kl")
        evaluate(run, key, gain, loss)
        kept = kept_rows(key, 0.9 - loss)
        final = {
            "test": ("toy", "test", test_rows(key, 0.15 + gain)),
            "retention-ifeval_toy": ("ifeval_toy", "retention", kept),
        }
        for name, (measured, split, rows) in final.items():
            run.samples(name, rows)
            for metric in ("accuracy", "parse_rate"):
                value = sum(row["score"] for row in rows) / len(rows)
                run.eval({"step": 10, "task": measured, "split": split, "metric": metric,
                          "value": value if metric == "accuracy" else 1.0,
                          "primary": metric == "accuracy", "n": len(rows), "n_unscored": 0,
                          "protocol_hash": protocol if split == "test" else split,
                          "final": True})  # fmt: skip
        fell = {} if collapsed is None else {"collapsed": {"step": collapsed, "sign": "a sign"}}
        run.seal({"chosen_step": 10, "rule": "the last step", "anchors": anchors(suite),
                  "tokens_written": 1000, "teacher_tokens_scored": 1000,
                  "student_tokens_trained": 1000, "skipped_steps": 0, **fell})  # fmt: skip
    return run.path


def describe(path, **more):
    """The suite's folder with its suite.json, and no run."""
    suite = SuiteDir(path)
    suite.merge(
        {"name": path.name, "summary": "A suite made by hand.", "tasks": ["toy"],
         "methods": list(METHODS), "learning_rate": list(RATES), "seeds": 2, "model": "tiny",
         "sweep_seeds": 1, "headline_learning_rate": 1e-3,
         "floors": {"toy": {"majority answer": 0.25, "best possible": 1.0}}, **more}
    )  # fmt: skip
    return suite


def sweep():
    """(method, rate, seed) of the suite, its headline rate with both seeds."""
    return [
        (method, rate, seed)
        for method in METHODS
        for rate in RATES
        for seed in range(2 if rate == 1e-3 else 1)
    ]


def whole(path: Path):
    """Every cell done but one that failed, and an external row; returns the suite."""
    suite = describe(path, methods=[*METHODS, "jsd"])
    for cell in sweep():
        finish(suite, *cell)
    with begin(suite, config("jsd", 1e-3, 0)) as run:
        train(run, "jsd", steps=3)
        run.fail("the loss is <not> finite", "a traceback")
    external.store(path, "stock", stock())
    return suite


def stock():
    """A record as lm_eval_files.read makes it: a metric without samples, and one with."""
    about = {"task": "ifeval", "task_version": 4.0, "task_hash": "f" * 64, "num_fewshot": 0,
             "lm_eval": "0.4.13", "chat_template": True, "filter": "none", "of": 541,
             "higher_is_better": True}  # fmt: skip
    followed = [[True, False], [True], [True], [False, True]]
    return {
        "model": "org/other",
        "model_source": "hf",
        "files": [{"name": "results_x.json", "sha256": "0" * 64}],
        "measures": [
            {**about, "metric": "inst_level_strict_acc", "value": 4 / 6, "stderr": None, "n": 4},
            {**about, "metric": "prompt_level_strict_acc", "value": 0.5, "stderr": 0.05, "n": 100},
        ],
        "samples": [
            {"task": "ifeval", "filter": "none", "example_id": f"e{at}", "values": {},
             "instruction_ids": list(KINDS[: len(one)]), "followed": one}
            for at, one in enumerate(followed)
        ],
    }  # fmt: skip
