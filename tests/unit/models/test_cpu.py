"""The process's switch for quick float32 products, whoever is within it."""

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
