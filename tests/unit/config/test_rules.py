"""Settings that go together badly: warned of, with what is true of the numbers."""

from __future__ import annotations

import pytest
import torch

from opcd_bench.config.rules import BFLOAT16_STAYS, rounding_warning
from opcd_bench.config.suite import make_suite


def suite(**values):
    return make_suite({"methods": "opcd", "tasks": "rule_math", **values}, "test")


def test_small_steps_on_bfloat16_weights_are_warned_of_with_what_to_type():
    told = rounding_warning(suite(dtype="bfloat16", learning_rate=[1e-3, 5e-6]))
    assert told is not None and "learning_rate = 5e-06" in told and "above 0.0026" in told
    assert "--set dtype=auto --set bf16=true" in told and "--set lora_rank=16" in told


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bf16": True},
        {"dtype": "float32"},
        {"dtype": "bfloat16", "lora_rank": 4},
        {"engine": "vllm", "lora_rank": 4},
        {"dtype": "bfloat16", "learning_rate": 1e-3},
    ],
)
def test_where_steps_are_kept_nothing_is_said(settings):
    assert rounding_warning(suite(**{"learning_rate": 5e-6, **settings})) is None


@pytest.mark.parametrize("wide", [{"dtype": "bfloat16"}, {"bf16": True}])
def test_an_adapter_that_vllm_merges_into_bfloat16_is_warned_of_with_what_to_type(wide):
    local = rounding_warning(suite(engine="vllm", lora_rank=4, **wide))
    assert local is not None and "lacks 93 % of the first step's change" in local
    assert "--engine hf" in local and "--set dtype=float32 --set bf16=false" in local
    served = rounding_warning(suite(engine="vllm", lora_rank=4, vllm_url="http://h:1", **wide))
    assert served is not None and "vllm serve with --dtype float32" in served


def test_a_bfloat16_weight_stays_below_the_share_that_the_warning_reckons_with():
    weights = torch.linspace(0.01, 2, 1000).bfloat16()
    assert torch.equal(weights + weights * BFLOAT16_STAYS * 0.99, weights)
    least = torch.tensor([1.9921875]).bfloat16()  # the last before 2: the finest steps there are
    assert not torch.equal(least + least * BFLOAT16_STAYS * 1.02, least)
