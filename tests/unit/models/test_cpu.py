"""The process's switch for quick float32 products, whoever is within it; memory that is kept."""

import os
import platform
import subprocess
import sys
from pathlib import Path

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


LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FAULTS = """
import resource
import sys
import torch
from opcd_bench.models import cpu

cpu.keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    tensors = [torch.ones(int(sys.argv[1])) for _ in range(int(sys.argv[2]))]
work()
before = faults()
for _ in range(10):
    work()
print(faults() - before)
"""
PAGES = 10 * 16 * (4 << 20) // 4096
"""What ten rounds of 64 MiB of tensors take from the system where nothing is kept."""


def faults(size: int = 1 << 20, **said: str) -> int:
    """Page faults of ten rounds after one, of tensors of that many float32, in a new process."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    known.pop("THP_MEM_ALLOC_ENABLE", None)
    words = [sys.executable, "-c", FAULTS, str(size), str((16 << 20) // size)]
    done = subprocess.run(words, env={**known, **said}, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's mallopt")
def test_what_a_step_frees_is_there_for_the_next_unless_the_user_says_how_to_allocate():
    assert faults() < PAGES / 20
    small = {"size": 1 << 17}  # half a MiB, which has no large pages
    assert faults(**small) < PAGES / 20
    assert faults(**small, MALLOC_TRIM_THRESHOLD_="131072") > PAGES / 2


@pytest.mark.skipif(
    not (LARGE_PAGES.exists() and "[madvise]" in LARGE_PAGES.read_text()),
    reason="here the system gives large pages to all or to none",
)
def test_large_tensors_have_large_pages_unless_the_user_says_otherwise():
    assert faults(size=16 << 20) < PAGES / 20
    assert faults(size=16 << 20, THP_MEM_ALLOC_ENABLE="0") > PAGES / 2
