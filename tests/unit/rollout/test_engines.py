"""Whole cells that a vLLM writes and teaches, with a stand-in for vLLM; and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import toy
from vllm_fake import FakeServer, FakeVLLM

from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.method import STUDENT, TOLD_TEACHER, Method, Teacher
from opcd_bench.errors import EngineDied, InvalidLoss, MissingPackage, ModelError
from opcd_bench.progress import QuietReporter
from opcd_bench.rollout import engines, vllm_local
from opcd_bench.rollout.vllm import WeightSync
from opcd_bench.rollout.vllm_server import VLLMServer
from opcd_bench.runner import grid
from opcd_bench.runner.perform import run_cell
from opcd_bench.runner.plan import Plan
from opcd_bench.runner.resources import Resources
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SuiteDir

ON_LIST = Method("on_list", "a test", "a test", STUDENT, named("fkl_gen", k=5))
STUDENTS_OWN = dataclasses.replace(
    ON_LIST, name="own", loss=named("rkl_gen", k=5, support="student_top_k")
)
LARGER = dataclasses.replace(
    ON_LIST, name="larger", writer=TOLD_TEACHER, teacher=Teacher(weights="larger")
)


@pytest.fixture
def fakes(monkeypatch) -> list[FakeVLLM]:
    """Every vLLM that a suite starts in process."""
    made = []

    def local(self, loaded, source, role):
        made.append(FakeVLLM(loaded))
        return WeightSync(made[-1])

    monkeypatch.setattr(engines.Engines, "_local", local)
    return made


def bench_of(folder: Path, output: Path, **settings) -> Resources:
    suite = toy.toy_suite(folder, output, **settings)
    suite_dir = SuiteDir(output / suite.name)
    suite_dir.merge({})
    return Resources(suite, suite_dir, QuietReporter())


def run_one(bench: Resources, method: Method) -> RunReader:
    task = toy.Toy()
    plan = Plan(bench.suite, {method.name: method}, {"toy": task})
    (cell,) = grid.cells(
        bench.suite.model_copy(update={"methods": (method.name,)}), plan.methods, plan.tasks
    )
    outcome = run_cell(cell, plan, bench, QuietReporter())
    assert outcome.problem is None
    return RunReader(bench.suite_dir.run(cell.name))


def test_a_cell_is_written_and_taught_by_vllm(tiny_model_folder, tmp_path, fakes):
    bench = bench_of(tiny_model_folder, tmp_path, engine="vllm", teacher_engine="vllm")
    bench.check([ON_LIST])
    rows = run_one(bench, ON_LIST).read("train")
    assert [row["coverage"] for row in rows] == [1.0] * len(rows)
    assert all(row["sampler_trainer_gap"] < 1e-4 for row in rows)
    assert rows[-1]["teacher_tokens_scored"] == rows[-1]["student_tokens_trained"] > 0
    writer, teacher = sorted(fakes, key=lambda fake: -fake.loads)
    assert teacher.loads == 1 and writer.loads >= len(rows)


def test_a_vllm_that_is_not_installed_stops_the_run_before_any_cell(
    tiny_model_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(vllm_local.importlib.util, "find_spec", lambda name: None)
    bench = bench_of(tiny_model_folder, tmp_path, engine="vllm")
    with pytest.raises(MissingPackage, match=r"pip install 'opcd-bench\[vllm\]'"):
        bench.check([ON_LIST])


def test_the_same_seeds_give_the_same_cell_with_a_local_teacher(tiny_model_folder, tmp_path, fakes):
    served = run_one(bench_of(tiny_model_folder, tmp_path / "a", teacher_engine="vllm"), ON_LIST)
    local = run_one(bench_of(tiny_model_folder, tmp_path / "b"), ON_LIST)
    for mine, theirs in zip(served.read("train"), local.read("train"), strict=True):
        assert mine["divergence"] == pytest.approx(theirs["divergence"], rel=1e-3)
        assert mine["tokens"] == theirs["tokens"]


def test_a_loss_that_vllm_cannot_serve_is_refused_before_any_step(
    tiny_model_folder, tmp_path, fakes
):
    bench = bench_of(tiny_model_folder, tmp_path, teacher_engine="vllm")
    with pytest.raises(InvalidLoss, match=r"'own'.*missing_ids = 'drop' or 'floor'"):
        bench.check([STUDENTS_OWN])
    bench = bench_of(tiny_model_folder, tmp_path, teacher_engine="vllm", missing_ids="drop")
    bench.check([STUDENTS_OWN])
    rows = run_one(bench, STUDENTS_OWN).read("train")
    assert all(row["coverage"] < 1.0 for row in rows)


@pytest.mark.parametrize(
    "teacher", [Teacher(weights="ema", rate=0.9), Teacher(weights="live"), Teacher(rows="shuffled")]
)
def test_a_teacher_that_moves_or_is_shuffled_is_refused(
    tiny_model_folder, tmp_path, fakes, teacher
):
    bench = bench_of(tiny_model_folder, tmp_path, teacher_engine="vllm")
    with pytest.raises(InvalidLoss, match="use teacher_engine = 'hf'"):
        bench.check([dataclasses.replace(ON_LIST, teacher=teacher)])


def test_importance_weights_need_the_writers_log_probs_at_the_suites_temperature(
    tiny_model_folder, tmp_path, fakes
):
    weighted = dataclasses.replace(ON_LIST, loss=named("pg_k1", importance_weight=True))
    hot = bench_of(tiny_model_folder, tmp_path, engine="vllm", temperature=0.7)
    with pytest.raises(
        InvalidLoss, match="importance weight needs the rollout policy's log-probabilities"
    ):
        hot.check([weighted])


def served_bench(monkeypatch, server: FakeServer, folder: Path, output: Path) -> Resources:
    def connect(url):
        return VLLMServer(url, transport=server.transport())

    monkeypatch.setattr(engines, "VLLMServer", connect)
    return bench_of(
        folder, output, teacher_engine="vllm", teacher_url="http://127.0.0.1:1",
        teacher_model=server.model,
    )  # fmt: skip


def test_a_larger_teacher_is_served_told_and_scored_without_its_weights_here(
    tiny_model_folder, tiny_loaded, tmp_path, monkeypatch
):
    server = FakeServer(tiny_loaded, name="big/model")
    bench = served_bench(monkeypatch, server, tiny_model_folder, tmp_path)
    bench.check([LARGER])
    run = run_one(bench, LARGER)
    assert all(row["coverage"] == 1.0 for row in run.read("train"))
    readings = {anchor["reading"] for anchor in run.summary["anchors"]}
    assert "ceiling-larger" in readings
    asked = [body for path, body in server.asked if path == "/v1/completions"]
    assert any("prompt_logprobs" in body for body in asked)
    assert any("stop_token_ids" in body for body in asked)


def test_a_server_that_lists_too_few_ids_is_refused_before_any_step(
    tiny_model_folder, tiny_loaded, tmp_path, monkeypatch
):
    server = FakeServer(tiny_loaded, name="big/model", max_logprobs=4)
    bench = served_bench(monkeypatch, server, tiny_model_folder, tmp_path)
    with pytest.raises(ModelError, match="larger --max-logprobs, or lower the loss's k"):
        bench.check([LARGER])


def test_a_server_of_another_model_is_refused(
    tiny_model_folder, tiny_loaded, tmp_path, monkeypatch
):
    server = FakeServer(tiny_loaded, name="big/model")
    bench = served_bench(monkeypatch, server, tiny_model_folder, tmp_path)
    bench.models.engines.server.model = "other/model"
    with pytest.raises(ModelError, match=r"serves 'other/model'.*vllm serve big/model"):
        bench.check([LARGER])


def test_a_server_that_is_none_is_found_before_a_model_is_loaded(tmp_path, monkeypatch):
    def connect(url):
        raise ModelError(f"{url} is none")

    monkeypatch.setattr(engines, "VLLMServer", connect)
    for engine, url in (("engine", "vllm_url"), ("teacher_engine", "teacher_url")):
        with pytest.raises(ModelError, match="is none"):
            bench_of(tmp_path / "no model", tmp_path, **{engine: "vllm", url: "http://h:1"})


def test_an_engine_that_dies_stops_the_run_and_leaves_the_cell_resumable(
    tiny_model_folder, tmp_path, fakes
):
    bench = bench_of(tiny_model_folder, tmp_path, teacher_engine="vllm")
    bench.check([ON_LIST])
    score = fakes[0].score
    calls = []

    def dying(*words):
        calls.append(words)
        if len(calls) == 4:
            raise EngineDied("the vLLM engine died")
        return score(*words)

    fakes[0].score = dying
    with pytest.raises(EngineDied):
        run_one(bench, ON_LIST)
    (path,) = tmp_path.glob("toy/toy--*")
    assert RunReader(path).state == "failed"
    fakes[0].score = score
    assert run_one(bench, ON_LIST).sealed
