"""The process's switch for quick float32 products, whoever is within it; memory that is kept."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from opcd_bench.models import cpu


def switch():
    return torch.backends.mkldnn.matmul.fp32_precision


def test_threads_that_come_and_go_in_any_order_leave_the_switch_as_it_was():
    """The second came while the first was within: it put back what the first had set."""
    before = switch()
    first, second = cpu.rounded_products(), cpu.rounded_products()
    with first:
        second.__enter__()
        assert switch() == "bf16"
    assert switch() == "bf16", "the second is still within"
    second.__exit__(None, None, None)
    assert switch() == before


def test_nothing_is_switched_where_it_is_off_and_an_error_puts_it_back():
    before = switch()
    with cpu.rounded_products(on=False):
        assert switch() == before
    try:
        with cpu.rounded_products(), cpu.rounded_products():
            raise RuntimeError
    except RuntimeError:
        pass
    assert switch() == before


FAULTS = """
import resource
import torch
from opcd_bench.models import cpu

cpu.keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    tensors = [torch.ones(1 << 20) for _ in range(16)]
work()
before = faults()
for _ in range(10):
    work()
print(faults() - before)
"""
PAGES = 10 * 16 * (4 << 20) // 4096
"""What ten rounds of sixteen tensors of 4 MiB take from the system where nothing is kept."""


def faults(**said: str) -> int:
    """Page faults of ten rounds after one, in a process of its own."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    words = [sys.executable, "-c", FAULTS]
    done = subprocess.run(words, env={**known, **said}, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's mallopt")
def test_what_a_step_frees_is_there_for_the_next_unless_the_user_says_how_to_allocate():
    assert faults() < PAGES / 20
    assert faults(MALLOC_TRIM_THRESHOLD_="131072") > PAGES / 2
