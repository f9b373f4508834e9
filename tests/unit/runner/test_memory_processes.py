"""The memory of each of several processes, and that the papers' 7B and 8B suites fit 8 x 80 GB."""

import pytest
from transformers import Qwen2Config, Qwen3Config

from opcd_bench.config.suite import make_suite
from opcd_bench.runner import registry
from opcd_bench.runner.estimate import memory, processes
from opcd_bench.runner.estimate.memory import Lengths, peak

QWEN3_8B = Qwen3Config(
    vocab_size=151936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36,
    num_attention_heads=32, num_key_value_heads=8, head_dim=128, max_position_embeddings=40960,
    tie_word_embeddings=False,
)  # fmt: skip
QWEN3_1_7B = Qwen3Config(
    vocab_size=151936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=28,
    num_attention_heads=16, num_key_value_heads=8, head_dim=128, max_position_embeddings=40960,
    tie_word_embeddings=True,
)  # fmt: skip
QWEN25_7B = Qwen2Config(
    vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28,
    num_attention_heads=28, num_key_value_heads=4, max_position_embeddings=32768,
    tie_word_embeddings=False,
)  # fmt: skip
"""As their config.json on the Hub says."""

SIZES = {
    "Qwen/Qwen3-8B": QWEN3_8B,
    "Qwen/Qwen3-1.7B": QWEN3_1_7B,
    "Qwen/Qwen2.5-7B-Instruct": QWEN25_7B,
}
BILLIONS = {"Qwen/Qwen3-8B": 8.19, "Qwen/Qwen3-1.7B": 1.72, "Qwen/Qwen2.5-7B-Instruct": 7.62}

LONG = Lengths(1_000, 3_000, "more than any prompt of these suites")


def shape(name, **words):
    return memory.shape_of(name, SIZES[name], **words)


@pytest.mark.parametrize("name", SIZES)
def test_the_shapes_are_those_of_the_models(name):
    assert shape(name).parameters / 1e9 == pytest.approx(BILLIONS[name], rel=0.01)


def of(suite, count):
    """The parts of one process of so many."""
    student = shape(suite.model)
    larger = None if suite.teacher_model is None else shape(suite.teacher_model)
    methods = registry.methods_of(suite).values()
    alone = memory.parts(suite, methods, student, larger, LONG, on_gpu=True)
    return processes.of_each(alone, suite, student, larger, count), alone, student, larger


BIG = ["paper_math", "paper_medical", "paper_safety", "paper_cross_size"]


@pytest.mark.parametrize("name", BIG)
def test_a_paper_suite_fits_the_gpus_that_it_asks_for(name):
    suite = registry.suite(name, size="eight_gpus")
    assert suite.processes == 8
    parts, alone, student, larger = of(suite, 8)
    assert max(peak(parts).values()) < 0.9 * 80e9
    assert max(peak(alone).values()) > 0.9 * 80e9, "on one GPU it would not"
    fewest = processes.fewest(alone, suite, student, larger)
    assert fewest is not None and 1 < fewest <= 8


def test_shares_add_up_to_the_whole_and_the_rest_is_each_process_s_own():
    suite = registry.suite("paper_math", size="eight_gpus")
    parts, alone, student, _ = of(suite, 8)
    whole = {part.name: part for part in alone}
    for part in parts:
        if part.divided:
            assert part.bytes == -(-whole[part.name].bytes // 8), part.name
    names = {part.name for part in parts}
    assert "float32 weights" in names and "student" not in names, "shards are float32"
    copy = next(part for part in parts if part.name == "whole copy")
    assert copy.bytes == 2 * student.parameters and copy.when == "writing"


def test_one_process_has_what_it_always_had():
    suite = make_suite({"methods": "opcd", "tasks": "rule_math", "learning_rate": 1e-3,
                        "model": "Qwen/Qwen3-1.7B"}, "test")  # fmt: skip
    parts, alone, *_ = of(suite, 1)
    assert parts == alone
