"""The real vLLM on the built-in model: replies, log-probs, weights that follow, whole cells.

In an environment of its own (CONTRIBUTING.md says how to make it): ``pytest -m vllm``.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fixtures import write_tiny_model

from opcd_bench.config.suite import make_suite
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.teachers.top_k import TopKTeacher
from opcd_bench.distillation.trainer import TrainingCore
from opcd_bench.errors import ModelError
from opcd_bench.models import loading, prompts
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.loading import copy_frozen
from opcd_bench.progress import PlainReporter
from opcd_bench.rollout.engine import Request, Sampling
from opcd_bench.rollout.engines import Engines, Servers
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.rollout.vllm import VLLMEngine, WeightSync
from opcd_bench.rollout.vllm_local import LocalVLLM
from opcd_bench.rollout.vllm_probe import order_gap, probe_gap, shared_prefixes
from opcd_bench.rollout.vllm_server import VLLMServer
from opcd_bench.runner import registry
from opcd_bench.store.run_reader import RunReader

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None, reason="vllm is not installed here"
    ),
]

SMOLLM2 = Path(__file__).parents[2] / "models" / "HuggingFaceTB" / "SmolLM2-135M-Instruct"
GREEDY = Sampling(temperature=0.0, max_completion_length=96)


@pytest.fixture(scope="module")
def micro() -> LoadedModel:
    return loading.load("micro-small", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def backend(micro) -> LocalVLLM:
    return LocalVLLM(micro, "micro-small", most_ids=64)


@pytest.fixture(scope="module")
def requests(micro) -> list[Request]:
    """Told and plain prompts of a task that the built-in model answers."""
    task = registry.task("rule_math")
    found = []
    for i, example in enumerate(task.examples("dev")[:12]):
        plain = task.open(example, 0).messages
        messages = task.context().tell(plain) if i % 2 else plain
        found.append(Request(prompts.prompt_ids(micro, messages), 1000 + i))
    return found


def trained(loaded: LoadedModel, scale: float) -> LoadedModel:
    """A copy with every weight moved, the tied embeddings too."""
    module = copy.deepcopy(loaded.model).requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(scale * parameter.std() * noise)
    return dataclasses.replace(loaded, model=module)


def test_greedy_replies_are_those_of_hf_with_log_probs_within_a_thousandth(
    micro, backend, requests
):
    mine = VLLMEngine(micro, WeightSync(backend)).generate(requests, GREEDY)
    theirs = HFEngine(micro).generate(requests, GREEDY)
    assert [(r.ids, r.text, r.finish) for r in mine] == [(r.ids, r.text, r.finish) for r in theirs]
    assert {r.finish for r in mine} == {"stop", "length"}
    gaps = [
        abs(a - b)
        for m, t in zip(mine, theirs, strict=True)
        for a, b in zip(m.logprobs, t.logprobs, strict=True)
    ]
    assert len(gaps) > 200 and max(gaps) < 1e-3


def test_the_line_of_a_run_moves_while_vllm_writes(micro, backend, requests, capfd):
    out = io.StringIO()
    with PlainReporter(out, every=0.0).phase("test", None, "samples"):
        VLLMEngine(micro, WeightSync(backend)).generate(requests, GREEDY)
    assert f"vllm={len(requests)}/{len(requests)} prompts" in out.getvalue()
    assert "Processed prompts" not in "".join(capfd.readouterr())


def test_weights_follow_the_trainer_without_a_new_engine(micro, backend, requests):
    follower = WeightSync(backend)
    for scale in (0.02, 0.1):
        student = trained(micro, scale)
        mine = VLLMEngine(student, follower).generate(requests[:4], GREEDY)
        theirs = HFEngine(student).generate(requests[:4], GREEDY)
        assert [r.ids for r in mine] == [r.ids for r in theirs]
        assert probe_gap(backend, student) < 1e-3 < probe_gap(backend, micro)


def test_each_reply_depends_on_its_own_seed_alone(micro, backend, requests):
    engine = VLLMEngine(micro, WeightSync(backend))
    sampling = Sampling(temperature=1.0, max_completion_length=24)
    together = engine.generate(requests, sampling)
    alone = engine.generate(requests[3:4], sampling)
    assert alone[0].ids == together[3].ids
    again = [dataclasses.replace(request, seed=request.seed + 1) for request in requests]
    assert [r.ids for r in engine.generate(again, sampling)] != [r.ids for r in together]


def test_the_lists_of_a_told_teacher_are_its_own_distribution(micro, backend, requests):
    weights = copy_frozen(micro)
    teacher = TopKTeacher(backend, weights, weights, micro.max_length, 1.0)
    assert teacher.tier == ("I" if backend.arbitrary_ids else "T")
    sequence = (*requests[1].prompt_ids, 50, 60, 70)
    scored = backend.score([sequence], 8)[0].last(3)
    with torch.no_grad():
        logp_TV = micro.model(torch.tensor([sequence])).logits[0, -4:-1].log_softmax(-1)
    for t, (ids, logps) in enumerate(zip(scored.ids, scored.logps, strict=True)):
        assert set(logp_TV[t].topk(8).indices.tolist()) <= set(ids)
        assert list(logps) == pytest.approx(logp_TV[t, list(ids)].tolist(), abs=1e-3)
        assert scored.own[t] == pytest.approx(logp_TV[t, sequence[t - 3]].item(), abs=1e-3)


def test_a_teacher_that_is_the_student_itself_gives_no_gradient(micro, backend, requests):
    """O-28 through the real serving path, against the same teacher told something else."""
    student = dataclasses.replace(micro, model=copy.deepcopy(micro.model).requires_grad_(True))
    replies = HFEngine(micro).generate(requests[:4], GREEDY)
    weights = copy_frozen(micro)
    teacher = TopKTeacher(WeightSync(backend), weights, weights, micro.max_length, 1.0)
    suite = make_suite({"methods": "opcd", "tasks": "rule_math"}, "a test")

    def step(shift: int):
        pairs = [
            Pair(f"e{i}", 0, request.prompt_ids, requests[i + shift].prompt_ids, reply.ids)
            for i, (request, reply) in enumerate(zip(requests[:4], replies, strict=True))
        ]
        core = TrainingCore(student, suite, 1e-9)
        return core.step(pairs, named("rkl_hybrid", k=32), teacher)

    same, other = step(0), step(5)
    assert same.divergence < 1e-6 and same.metrics["coverage"] == 1.0
    assert same.grad_norm < 1e-2 * other.grad_norm


def test_starting_and_running_vllm_leaves_the_random_state_alone(micro, backend, requests):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    VLLMEngine(micro, WeightSync(backend)).generate(requests[:2], GREEDY)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("steps", [0, 5])
def test_after_an_error_in_the_middle_vllm_writes_for_the_next_cell(
    micro, backend, requests, monkeypatch, steps
):
    """Memory that ran out fails one cell: no block stays held, and no answer comes later."""
    core = backend.llm.llm_engine.engine_core.engine_core
    run, calls = core.model_executor.execute_model, []

    def failing(*words, **more):
        calls.append(1)
        if len(calls) > steps:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(*words, **more)

    follower = WeightSync(backend)
    follower.refresh(micro)
    with monkeypatch.context() as patched, pytest.raises(torch.OutOfMemoryError):
        patched.setattr(core.model_executor, "execute_model", failing)
        backend.write(requests, GREEDY, micro.eos_ids)
    student = trained(micro, 0.05)
    mine = VLLMEngine(student, follower).generate(requests[:4], GREEDY)
    theirs = HFEngine(student).generate(requests[:4], GREEDY)
    assert [r.ids for r in mine] == [r.ids for r in theirs]


# Engines of their own come after all tests of `backend`: vLLM ends what engines share with them.


@pytest.mark.parametrize("caching", [False, True])
def test_log_probs_of_sequences_that_share_blocks_depend_on_no_order(micro, caching):
    engine = LocalVLLM(micro, "micro-small", most_ids=8, options={"enable_prefix_caching": caching})
    WeightSync(engine).refresh(micro)
    engine.write([Request(one, 0) for one in shared_prefixes(micro)], GREEDY, micro.eos_ids)
    assert order_gap(engine, micro) < 1e-3


def test_in_bfloat16_small_steps_are_followed_and_stale_weights_seen(requests, monkeypatch):
    """Steps of AdamW's size at learning rate 5e-6, on weights that are kept in float32 beside."""
    student = loading.load("micro-small", device="cpu", dtype="bfloat16")
    masters = [parameter.detach().float() for parameter in student.model.parameters()]
    engine = VLLMEngine(student, WeightSync(LocalVLLM(student, "micro-small", most_ids=8)))
    generator = torch.Generator().manual_seed(0)

    def step():
        with torch.no_grad():
            for master, parameter in zip(masters, student.model.parameters(), strict=True):
                master += 5e-6 * torch.randn(master.shape, generator=generator).sign()
                parameter.copy_(master)

    short = dataclasses.replace(GREEDY, max_completion_length=4)
    for _ in range(5):
        engine.generate(requests[:4], short)
        step()
    monkeypatch.setattr(engine.sync.backend, "load", lambda loaded: None)
    with pytest.raises(ModelError, match="those that it was given before"):
        engine.generate(requests[:4], short)


def test_rows_of_the_head_that_are_padding_are_not_sampled(tmp_path):
    """259 tokens and 61 rows of padding as likely as they: without a bias one in five is one."""
    folder = write_tiny_model(tmp_path / "wide", vocab_size=320, head_dim=64)
    wide = loading.load(str(folder), device="cpu", dtype="float32")
    assert (wide.vocab_size, wide.padded_rows) == (259, 61)
    engine = VLLMEngine(wide, WeightSync(LocalVLLM(wide, str(folder), most_ids=8)))
    requests = [Request((5, 6, 7 + i), i) for i in range(8)]
    sampled = engine.generate(requests, Sampling(temperature=1.0, max_completion_length=64))
    assert max(max(reply.ids) for reply in sampled) < 259
    assert len({id for reply in sampled for id in reply.ids}) > 20
    mine, theirs = engine.generate(requests, GREEDY), HFEngine(wide).generate(requests, GREEDY)
    assert [r.ids for r in mine] == [r.ids for r in theirs]


@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="type: make smollm2")
def test_vllm_opens_real_weights_and_gives_the_log_probs_of_the_model_in_memory():
    loaded = loading.load(str(SMOLLM2), device="cpu", dtype="float32")
    backend = LocalVLLM(loaded, str(SMOLLM2), most_ids=8)
    WeightSync(backend).refresh(loaded)
    assert probe_gap(backend, loaded) < 1e-2


def test_the_vllm_of_a_teacher_has_no_prefix_cache(micro):
    words = {"methods": "opcd_hybrid", "tasks": "rule_math", "teacher_engine": "vllm"}
    suite = make_suite(words, "a test")
    follower, _ = Engines(suite, micro, Servers(suite)).scoring_vllm(micro)
    config = follower.backend.llm.llm_engine.vllm_config
    assert config.cache_config.enable_prefix_caching is False


def command(*words: str, cwd) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("opcd-bench")), *words],
        cwd=cwd, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip


def test_vllm_goes_on_from_a_begun_response_as_from_its_own(tmp_path):
    done = command(
        "probe", "prefix", "--model", "micro-small", "--tasks", "rule_math",
        "--teachers", "in-context", "--continuations", "2", "--items", "6",
        "--temperature", "0.02", "--out", "probed", "--json",
        "--set", "engine=vllm", "--set", "jobs=1", "--set", "max_completion_length=200",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [row for row in json.loads(done.stdout)["rows"] if row["teacher"] == "in-context"]
    assert [row["share"] for row in rows] == [0.0, 0.25, 0.5, 0.75]
    # Nearly greedy: where its own response is cut changes nothing, if the tokens are joined well.
    whole = rows[0]["own"]["value"]
    assert whole >= 0.5
    assert all(abs(row["own"]["value"] - whole) < 0.2 for row in rows)
    # What a student that was told nothing begins is wrong from its first rule on.
    assert rows[-1]["accuracy"]["value"] < rows[0]["accuracy"]["value"]


def test_a_cell_written_and_taught_by_vllm_trains_and_logs_the_gap(tmp_path):
    done = command(
        "run", "--methods", "forward_kl_on_policy,opcd_hybrid", "--tasks", "rule_math",
        "--max-steps", "3", "--batch-size", "4", "--learning-rate", "1e-4", "--retention", "none",
        "--name", "v", "--no-report", "--set", "engine=vllm", "--set", "teacher_engine=vllm",
        "--set", "eval_steps=3", "--set", "dev_items=4", "--set", "test_items=6", "--set", "jobs=1",
        "--set", "keep_checkpoints=all", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = sorted((tmp_path / "results/v").glob("rule_math--*"))
    assert len(runs) == 2
    for run in runs:
        rows = RunReader(run).read("train")
        assert [row["step"] for row in rows] == [1, 2, 3]
        assert all(row["coverage"] == 1.0 and row["divergence"] > 0 for row in rows)
        assert (
            max(row["sampler_trainer_gap"] for row in rows if "sampler_trainer_gap" in row) < 1e-3
        )
        suite = json.loads((run / "config.json").read_text())["suite"]
        assert suite["engine"] == suite["teacher_engine"] == "vllm"
    folder = runs[0] / "checkpoints/step_000003/model"
    student = loading.load(str(folder), device="cpu", dtype="float32")
    assert probe_gap(LocalVLLM(student, str(folder)), student) < 1e-3


def test_a_loss_that_a_listed_teacher_cannot_serve_is_refused_before_any_step(tmp_path):
    done = command(
        "run", "--methods", "opcd", "--tasks", "rule_math", "--name", "v", "--no-report",
        "--set", "teacher_engine=vllm", "--set", "jobs=1", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "missing_ids = 'drop' or 'floor'" in done.stderr
    assert not (tmp_path / "results/v").exists()


# --- a server of its own -----------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """``vllm serve`` on a tiny model with untied embeddings, which takes weights on a CPU too."""
    folder = write_tiny_model(
        tmp_path_factory.mktemp("served") / "tiny", tie_word_embeddings=False, head_dim=64
    )
    port = free_port()
    log = folder.parent / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder),
                "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32",
                "--enforce-eager", "--max-logprobs", "256",
            ],
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
                 "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        yield folder, wait_for(url, process, log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def wait_for(url, process, log) -> VLLMServer:
    from opcd_bench.errors import EngineDied

    for _ in range(180):
        try:
            return VLLMServer(url)
        except EngineDied:
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(2)
    raise AssertionError(log.read_text()[-3000:])


def test_a_server_writes_teaches_and_takes_weights(served, monkeypatch):
    folder, server = served
    load, loads = server.load, []
    monkeypatch.setattr(server, "load", lambda loaded: (loads.append(1), load(loaded)))
    student = loading.load(str(folder), device="cpu", dtype="float32")
    server.check_tokenizer(student.tokenizer, "tiny")
    requests = [Request((5, 6, 7 + i), i) for i in range(4)]
    follower = WeightSync(server)
    for loaded in (student, trained(student, 0.1)):
        mine = VLLMEngine(loaded, follower).generate(requests, GREEDY)
        theirs = HFEngine(loaded).generate(requests, GREEDY)
        assert [r.ids for r in mine] == [r.ids for r in theirs]
        assert probe_gap(server, loaded) < 1e-3
        follower.refresh(loaded)
    assert len(loads) == 2, "what nobody changed answers as it did, to the last bit"
    assert len(server.score([(5, 6, 7, 8)], 5)[0].ids[0]) in (5, 6)


def against(server, folder, tmp_path, name):
    return command(
        "run", "--methods", "forward_kl", "--tasks", "rule_math", "--model", str(folder),
        "--max-steps", "2", "--batch-size", "4", "--learning-rate", "1e-4", "--retention", "none",
        "--name", name, "--no-report", "--set", "teacher_engine=vllm",
        "--teacher-url", str(server._client.base_url),
        "--set", "eval_steps=2", "--set", "dev_items=4", "--set", "test_items=4",
        "--set", "jobs=1", "--set", "max_completion_length=16", cwd=tmp_path,
    )  # fmt: skip


def test_a_suite_trains_against_a_server_that_holds_its_teacher_and_no_other(served, tmp_path):
    folder, server = served
    student = loading.load(str(folder), device="cpu", dtype="float32")
    server.load(trained(student, 0.1))
    refused = against(server, folder, tmp_path, "other")
    assert refused.returncode == 2 and "does not have the weights" in refused.stderr
    server.load(student)
    done = against(server, folder, tmp_path, "same")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "results/same").glob("rule_math--*")
    assert [row["coverage"] for row in RunReader(run).read("train")] == [1.0, 1.0]
