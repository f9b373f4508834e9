"""The engine of vLLM in this process, on a stand-in: what is left of a call that failed."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from opcd_bench.errors import EngineDied, ModelError
from opcd_bench.rollout import vllm_local
from opcd_bench.rollout.engine import Request, Sampling
from opcd_bench.rollout.vllm_local import LocalVLLM


class EngineDeadError(Exception):
    """vLLM's own, of an engine in another process."""


class Stub:
    """As much of ``vllm.LLM`` as a call that fails meets; ``stuck``: no request can be aborted."""

    def __init__(self, error: BaseException, *, stuck: bool = False) -> None:
        self.error, self.stuck = error, stuck
        self.llm_engine = self
        self.output_processor = types.SimpleNamespace(request_states={})

    def generate(self, inputs, params, use_tqdm):
        self.output_processor.request_states = {f"{i}-a1b2": None for i, _ in enumerate(inputs)}
        raise self.error

    def abort_request(self, ids, internal=False):
        if self.stuck:
            raise RuntimeError("CUDA error: an illegal memory access")
        assert internal, "ids of request_states are vLLM's own"
        for one in ids:
            del self.output_processor.request_states[one]


@pytest.fixture
def write(monkeypatch):
    exceptions = types.SimpleNamespace(EngineDeadError=EngineDeadError)
    monkeypatch.setitem(sys.modules, "vllm.v1.engine.exceptions", exceptions)

    def call(llm: Stub):
        local = object.__new__(LocalVLLM)
        local.vllm, local.llm = types.SimpleNamespace(SamplingParams=dict), llm
        return local.write([Request((5, 6), 0), Request((7,), 1)], Sampling(), (0,))

    return call


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), ValueError("x"), KeyboardInterrupt()]
)
def test_after_any_error_no_request_is_left_and_the_error_is_its_own(write, error):
    llm = Stub(error)
    with pytest.raises(type(error)):
        write(llm)
    assert not llm.output_processor.request_states


def test_an_engine_that_cannot_drop_its_requests_cannot_go_on(write):
    words = (
        r"failed \(OutOfMemoryError: CUDA out of memory\).*illegal memory access.*Nothing is lost"
    )
    with pytest.raises(EngineDied, match=words):
        write(Stub(torch.OutOfMemoryError("CUDA out of memory"), stuck=True))


def test_a_dead_engine_is_asked_for_nothing_more(write):
    with pytest.raises(EngineDied, match="the vLLM engine died"):
        write(Stub(EngineDeadError("EngineCore encountered an issue"), stuck=True))


def test_a_cache_that_is_not_emptied_is_no_matter_of_its_being_on(write, tiny_loaded):
    """It refuses while any block is held, whether or not it caches prefixes."""
    local = object.__new__(LocalVLLM)
    local.name = "vLLM in process"
    local.llm = types.SimpleNamespace(
        collective_rpc=lambda *_, **__: None,
        apply_model=lambda *_: None,
        reset_prefix_cache=lambda: False,
    )
    with pytest.raises(ModelError, match=r"did not empty.*same command again") as refused:
        local.load(tiny_loaded)
    assert "enable_prefix_caching" not in str(refused.value)


@pytest.mark.parametrize("speculative", [None, {"method": "ngram"}])
def test_an_engine_that_decodes_speculatively_is_given_no_bias(
    monkeypatch, tiny_loaded, tiny_model_folder, speculative
):
    """It refuses every request that has one."""

    class LLM:
        def __init__(self, **options):
            config = types.SimpleNamespace(
                speculative_config=options.get("speculative_config"), use_v2_model_runner=False
            )
            self.llm_engine = types.SimpleNamespace(vllm_config=config)

    params = types.SimpleNamespace(__struct_fields__=())
    module = types.SimpleNamespace(LLM=LLM, SamplingParams=params)
    monkeypatch.setattr(vllm_local, "_module", lambda: module)
    options = {} if speculative is None else {"speculative_config": speculative}
    local = LocalVLLM(tiny_loaded, str(tiny_model_folder), options=options)
    assert local.biases == (speculative is None)
