"""A small results folder made by hand, through the store itself."""

from opcd_bench.hashing import digest
from opcd_bench.store.run_dir import RunDir

SETTINGS = {"max_steps": 20, "dev_items": 4}
BASE = {"t0": 0.0, "t1": 0.0, "t2": 0.0, "t3": 1.0}
CEILING = {"t0": 1.0, "t1": 1.0, "t2": 0.0, "t3": 1.0}
RETAINED = {"r0": 1.0, "r1": 1.0, "r2": 0.0, "r3": 1.0}
GOOD = {"t0": 1.0, "t1": 0.0, "t2": 0.0, "t3": 1.0}
COUNTERS = {
    "tokens_written": 1234, "teacher_tokens_scored": 5678, "student_tokens_trained": 1234,
}  # fmt: skip


def many(scores, times=8):
    """The same scores of so many times the examples: a gap of four is not shown to be one."""
    return {f"{key}.{i}": value for key, value in scores.items() for i in range(times)}


def sample_rows(task, split, scores):
    return [
        {"task": task, "split": split, "example_id": key, "sample": 0, "score": value,
         "outcome": "failed" if value is None else "correct" if value == 1.0 else "wrong"}
        for key, value in scores.items()
    ]  # fmt: skip


def anchored(suite, kept=None):
    """Base, ceiling and base retention, as a run stores them; returns the references."""
    made = []
    for reading, rows, shared in (
        ("base", sample_rows("toy", "test", BASE), suite.shared("toy", "k")),
        ("ceiling", sample_rows("toy", "test", CEILING), suite.shared("toy", "k")),
        (
            "base",
            kept or sample_rows("keep", "test", RETAINED),
            suite.shared("retention-keep", "k"),
        ),
    ):
        name = "base" if shared.path.name.startswith("retention-") else f"{reading}-test-s0"
        shared.put(name, [{"measured": {}}, *rows])
        made.append({"reading": reading, "shared": shared.path.name, "name": name})
    return made


def cell(method, *, seed=0, rate=1e-3, settings=SETTINGS, version=1, k=1, writer="student"):
    return {
        "suite": settings,
        "task": {"name": "toy", "version": version},
        "method": {
            "name": method,
            "k": k,
            "writer": {"kind": writer},
            "loss": {},
            "teacher": {"weights": "initial", "reads": "context", "rows": "aligned"},
        },
        "learning_rate": rate,
        "seed": seed,
    }


def begin(suite, config, environment=None):
    name = f"toy--{config['method']['name']}--s{config['seed']}--{digest(config)}"
    return RunDir.open(suite.run(name), config, environment or {})


def finished(
    suite, config, test, kept=RETAINED, *, protocol="p", parse=1.0, dev=0.5, seconds=(), **counters
):
    """A sealed run with these test scores, retention scores and dev accuracy."""
    with begin(suite, config) as run:
        for split, metric, value in (
            ("dev", "accuracy", dev), ("test", "accuracy", 0.5), ("test", "parse_rate", parse),
        ):  # fmt: skip
            run.eval({"step": 10, "task": "toy", "split": split, "metric": metric, "value": value,
                      "primary": metric == "accuracy", "n": 4, "n_unscored": 0,
                      "final": split == "test",
                      "protocol_hash": protocol if split == "test" else "dev"})  # fmt: skip
        for step, spent in enumerate(seconds, 1):
            clock = {"seconds_written": spent / 4, "seconds_trained": 3 * spent / 4}
            run.timing({"step": step, **clock, "peak_memory_bytes": step << 20})
        run.samples("test", sample_rows("toy", "test", test))
        rows = kept if isinstance(kept, list) else sample_rows("keep", "test", kept)
        run.samples("retention-keep", rows)
        run.samples("scores-toy-step_000000", [{"task": "toy", "split": "dev", "scores": []}])
        run.seal({"chosen_step": 10, "anchors": anchored(suite), **COUNTERS, **counters})
