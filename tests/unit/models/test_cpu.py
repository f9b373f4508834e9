"""The process's switch for quick float32 products, whoever is within it; memory that is kept."""

import os
import platform
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from fixtures import tiny_model

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


def test_of_the_widths_that_were_seen_one_bias_is_kept():
    """Each was kept, up to 64: 1.8 GB for a model whose 7 query heads share a key head."""
    cpu._bias.cache_clear()
    query, key = torch.ones(1, 7, 1, 4), torch.ones(1, 1, 1, 4)
    made = []
    for width in range(100, 130):
        for _ in range(3):  # layers
            cpu.causal_attention(
                torch.nn.Identity(),
                query.expand(1, 7, width, 4), *[key.expand(1, 1, width, 4)] * 2, None,
            )  # fmt: skip
        made.append(weakref.ref(cpu._bias(width, 7, query.dtype, query.device)))
    assert cpu._bias.cache_info().misses == len(made), "a pass makes it once"
    kept = [bias().numel() for bias in made if bias() is not None]
    assert kept == [7 * 129 * 129]


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


def failing(monkeypatch, error):
    """A model whose attention fails where it is another than its own."""

    def attention(*_, **__):
        raise error

    monkeypatch.setattr(cpu, "causal_attention", attention)
    return tiny_model()


MACHINE = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    MemoryError(),
    NotImplementedError("Could not run 'aten::baddbmm' with arguments from the 'XYZ' backend."),
    *(
        RuntimeError(said)
        for said in (
            "Expected all tensors to be on the same device, but found at least two devices, cpu "
            "and cuda:0!",
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 1099511627776 bytes. Error code 12",
            "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        )
    ),
]


@pytest.mark.parametrize("error", MACHINE, ids=lambda error: f"{type(error).__name__} {error}"[:60])
def test_an_error_of_the_machine_says_nothing_of_a_model_s_attention(error, monkeypatch):
    """It was taken for one, so that on a GPU no model's contexts were shared."""
    with pytest.raises(type(error)) as raised:
        cpu.plain(failing(monkeypatch, error))
    assert raised.value is error


ARCHITECTURE = [
    RuntimeError("shape '[24, 1, 64]' is invalid for input of size 3072"),
    RuntimeError("view size is not compatible with input tensor's size and stride"),
    TypeError("unsupported operand type(s) for +: 'Tensor' and 'NoneType'"),
    AttributeError("'NoneType' object has no attribute 'to'"),
    ValueError("unknown attention"),
    NotImplementedError("only eager attention"),
    KeyError("opcd_bench_causal"),
]


@pytest.mark.parametrize("error", ARCHITECTURE, ids=repr)
def test_a_model_that_fails_with_another_attention_has_one_of_its_own(error, monkeypatch):
    assert not cpu.plain(failing(monkeypatch, error))
