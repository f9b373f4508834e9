"""The comparison with TRL: its counts of products and positions, its table, its look at others."""

import dataclasses
import sys
from pathlib import Path

import pytest
from transformers import Qwen3ForCausalLM

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from beside_trl import files, machine, table, workloads

SHAPE = workloads.Shape("tiny", 20, 8, 16, 3, 4, 2, 4)
WORK = workloads.Workload("work", SHAPE, 5, 3, (2, 4), 1, 2.0)


def measured(others=(0.0, 0.01)):
    """Two rounds: ours of 1 and 3 seconds, TRL's of 4 and 8."""

    def step(whole, positions):
        return {
            "whole": whole,
            "seconds": {"sampling": whole / 2, "student": whole / 4},
            "positions": positions,
            "memory": {"peak": 3 * 2**30, "libraries": 2**30},
        }

    ours = [step(s, {"sampling": 10, "teacher": 15, "student": 20}) for s in (1.0, 3.0)]
    trl = [step(s, {"sampling": 20, "teacher": 0, "student": 10}) for s in (4.0, 8.0)]
    peak = {"float32": 1e9, "bfloat16": 2e9}
    return table.Measured(WORK, {"ours": ours, "trl": trl}, {}, peak, others, [0.1])


@pytest.mark.parametrize("shape", [SHAPE, workloads.SMOKE])
def test_a_shape_has_as_many_parameters_as_its_model(shape):
    assert shape.parameters == Qwen3ForCausalLM(files.config(shape)).num_parameters()


def test_the_named_shapes_have_the_parameters_that_their_names_say():
    assert round(workloads.SMALL.parameters / 1e6, 1) == 5.8
    assert round(workloads.REAL.parameters / 1e6) == 135


def test_products_are_two_operations_an_entry():
    matrices = 8 * 16 + 2 * 8 * 8 + 16 * 8 + 3 * 8 * 16
    assert SHAPE.forward(7) == 2 * 7 * 3 * matrices
    assert SHAPE.head(7) == 2 * 7 * 8 * 20


@pytest.mark.parametrize(("new", "before"), [(1, 0), (4, 0), (3, 5)])
def test_attention_counts_every_pair_of_a_token_and_one_before_it_or_itself(new, before):
    pairs = sum(1 for row in range(new) for column in range(before + new) if column <= before + row)
    scores = values = 2 * pairs * 4 * 4
    assert SHAPE.attention(new, before) == 3 * (scores + values)


def test_a_context_costs_attention_alone_and_the_last_token_nothing():
    plain = sum(SHAPE.forward(n) + SHAPE.attention(n) for n in (4, 6))
    told = sum(SHAPE.forward(n) + SHAPE.attention(n, 5) for n in (4, 6))
    head = SHAPE.head(6)
    assert WORK.needed("student") == {
        "sampling": plain + head,
        "teacher": told,
        "student": 3 * (plain + head) + head,
    }
    assert WORK.needed("teacher")["teacher"] == told + head
    assert WORK.positions() == {"sampling": 10, "teacher": 15, "student": 10}


def test_the_mix_of_lengths_reaches_both_ends_and_is_short_for_the_most_part():
    lengths = workloads.geometric_mix(32, 8, 256)
    assert (min(lengths), max(lengths), len(lengths)) == (9, 256, 32)
    assert sorted(lengths)[16] < sum(lengths) / 32 < 80


def test_a_step_s_prompts_are_its_own_and_the_context_is_one():
    work = dataclasses.replace(WORK, shape=workloads.SMALL)
    assert work.prompts(0) == work.prompts(0) != work.prompts(1)
    assert {len(prompt.split()) for prompt in work.prompts(0)} == {3}
    assert len(work.context().split()) == 5 and work.context().endswith(" ")
    assert dataclasses.replace(work, told=0).context() == ""


def test_every_workload_fills_its_micro_batches_small_too():
    for workload in workloads.WORKLOADS.values():
        for one in (workload, workloads.smoke(workload)):
            assert len(one.lengths) % one.micro_batch == 0
            assert bool(one.told) == bool(workload.told)
            assert one.bf16 == workload.bf16 and bool(one.top_k) == bool(workload.top_k)


def test_ratios_shares_and_memory():
    found = measured()
    assert found.ratio == 3.0
    assert found.ratios == [4.0, 8.0 / 3.0]
    needed = WORK.needed("student")["sampling"]
    assert found.share("ours", "sampling") == needed / (1e9 * 1.0)
    every = sum(WORK.needed("student").values())
    assert found.whole_share == every / (1e9 * 2.0)
    assert found.at_peak == pytest.approx(6.0 / (every / 1e9))
    assert found.beyond("ours", "student") == 0.5
    assert found.beyond("trl", "teacher") is None
    peak, beyond = found.memory("ours")
    assert peak == 3.0
    assert beyond == pytest.approx(2.0 - 20 * SHAPE.parameters / 2**30)


def test_the_table_has_a_row_for_each_workload_and_two_for_its_phases():
    text = table.markdown([measured()], ["where"])
    rows = [line for line in text.splitlines() if line.startswith("| `work`")]
    assert len(rows) == 3
    assert "| 2.00 (1.00 to 3.00) | 6.00 (4.00 to 8.00) | 3.00 | 2.67 to 4.00 | 2 | " in rows[0]
    assert "Alone on the machine: other processes used 1% of the CPU" in text


def test_a_table_of_a_busy_machine_says_that_it_is_not_to_be_published():
    text = table.markdown([measured(), measured(others=(0.0, 0.4))], [])
    assert "other processes used 40% of the CPU: these figures are not to be published" in text


def test_the_table_goes_between_the_marks_of_a_page():
    page = f"# Speed\n\n{table.BEGIN}\nold\n{table.END}\n\nafter\n"
    once = table.put(page, "new\n")
    assert once == f"# Speed\n\n{table.BEGIN}\n\nnew\n\n{table.END}\n\nafter\n"
    assert table.put(once, "new\n") == once
    assert table.put("no marks", "new\n") == "new\n"


def test_the_page_has_the_marks():
    page = (Path(__file__).parents[3] / "docs" / "speed.md").read_text(encoding="utf-8")
    assert page.count(table.BEGIN) == page.count(table.END) == 1


def test_what_others_use_is_what_is_used_and_not_ours():
    before = machine.Look(there=1000, used=500, own=100)
    assert machine.by_others(before, machine.Look(1200, 600, 160)) == pytest.approx(0.2)
    assert machine.by_others(before, machine.Look(1200, 600, 205)) == 0.0
