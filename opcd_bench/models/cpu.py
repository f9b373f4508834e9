"""What makes a CPU quick enough to train on: products, attention, memory that is kept."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, lru_cache
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from opcd_bench.models.modes import in_eval_mode

_NAME = "opcd_bench_causal"
_TRIED: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()
LONGEST = 1024
"""Tokens up to which the (tokens x tokens) scores are worth their memory."""
_UNFIT = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What architectures raise that are given another attention, or a mask of none.

Falcon and MPT compute with the mask (TypeError, AttributeError), JetMoE views what attention gives,
Inkling's keys have another shape (RuntimeError); code from elsewhere asks what it is given.
"""
_MACHINE_WORDS = ("device", "memory", "backend", "cuda", "cublas", "cudnn", "hip error")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's numbers for ``mallopt``."""
KEPT, MAPPED = 256 << 20, 32 << 20
"""Bytes that are free and stay the process's, and from how many on an allocation has its own pages.

A step's tensors then lie where the last step's lay. Pages from the system cost a fault each: 60,000
a step of a model with 5.8 million parameters, a tenth of its time (``benchmarks/against_trl.py``).
"""


def causal_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention function for rows padded on the right: the mask is causal, no other.

    ``query`` (rows, heads, T, size), ``key`` and ``value`` (rows, shared heads, T, size) ->
    (rows, T, heads, size). Query heads that share a key head are stacked along time, so that keys
    are not repeated. On CPUs the fused kernel's backward pass takes several times as long
    (``benchmarks/training.py``).
    """
    rows, heads, length, size = query.shape
    shared = key.shape[1]
    groups = heads // shared
    stacked = query.reshape(rows * shared, groups * length, size)
    keys = key.reshape(rows * shared, length, size).transpose(1, 2)
    scale = scale_of(query, scaling)
    bias = _bias(length, groups, query.dtype, query.device)
    weights = torch.baddbmm(bias, stacked, keys, alpha=scale).softmax(-1)
    mixed = torch.bmm(weights, value.reshape(rows * shared, length, size))
    return mixed.view(rows, heads, length, size).transpose(1, 2), None


def scale_of(query: Tensor, scaling: float | None) -> float:
    """What scores are multiplied by: the model's own factor, or one over the root of the size."""
    return float(query.shape[-1]) ** -0.5 if scaling is None else scaling


@lru_cache(maxsize=1)
def _bias(length: int, groups: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is added to the scores, (groups x length, length): hides the tokens that come later.

    A model's layers share it; it is 29 MB for 1,024 tokens and 7 groups, and no two are kept.
    """
    low = max(-1e9, torch.finfo(dtype).min)
    return torch.full((length, length), low, dtype=dtype, device=device).triu_(1).repeat(groups, 1)


def register(name: str, attention: Callable[..., Any], mask: Callable[..., Any]) -> None:
    """Tell transformers what a model of that attention implementation attends and masks by."""
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, mask)


def no_mask(*_: Any, **__: Any) -> None:
    """No mask is built: the attention function knows what is seen. One that is given passes."""


@contextmanager
def attending(
    model: PreTrainedModel,
    name: str,
    attention: Callable[..., Any],
    mask: Callable[..., Any] = no_mask,
) -> Iterator[None]:
    """Let ``model`` attend by a function of our own, and then as it did."""
    register(name, attention, mask)
    with _implementation(model, name):
        yield


def set_causal(model: PreTrainedModel, on: bool) -> None:
    """Switch ``model`` to ``causal_attention`` until told otherwise, or back to PyTorch's own."""
    register(_NAME, causal_attention, no_mask)
    model.set_attn_implementation(_NAME if on else "sdpa")


def plain(model: PreTrainedModel) -> bool:
    """Whether every layer attends to all that came before, through transformers' interface.

    Only then can attention functions of our own take the place of the model's. Some architectures
    have attention of their own whatever their config says (BLOOM, MPT), so it is tried once.
    """
    if model.config.get_text_config()._attn_implementation not in ("sdpa", "eager"):
        return False
    if model not in _TRIED:
        layers = DynamicCache(config=model.config).layers
        whole = bool(layers) and all(type(layer) is DynamicLayer for layer in layers)
        _TRIED[model] = whole and _takes_causal(model)
    return _TRIED[model]


def known_as(model: PreTrainedModel, *, plain: bool) -> None:
    """Say what `plain` would find out, of a copy of a model that was asked."""
    _TRIED[model] = plain


@torch.no_grad()
def _takes_causal(model: Any) -> bool:
    """Whether the model gives the same with ``causal_attention`` in the place of its own.

    In bfloat16 a deep model's own two ways to attend can differ by 10 % and more; ours has to be
    close to the one that it is set to, or to the eager one.
    """
    decoder = model.get_decoder()
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.arange(1, 25, device=model.device).remainder_(vocabulary).view(2, 12)

    def states(way: AbstractContextManager[Any]) -> Tensor:
        with way, in_eval_mode(model), torch.autocast(model.device.type, enabled=False):
            found: Tensor = decoder(input_ids=ids, use_cache=False).last_hidden_state.float()
        return found

    try:
        ours = states(attending(model, _NAME, causal_attention))
        own = [states(nullcontext())]
        if model.dtype == torch.bfloat16:
            own.append(states(_implementation(model, "eager")))
    except _UNFIT as error:
        if _of_the_machine(error):
            raise
        return False
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
    return any((it - ours).abs().mean() <= tolerance * it.abs().mean() for it in own)


def _of_the_machine(error: Exception) -> bool:
    """Whether an error tells of devices or memory, not of the architecture.

    PyTorch has classes for some of these; tensors on two devices, an allocation that fails on a CPU
    and an operator that a device lacks are RuntimeErrors as any other.
    """
    if isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in said for word in _MACHINE_WORDS)


@contextmanager
def _implementation(model: Any, name: str) -> Iterator[None]:
    """Let ``model`` attend by one of transformers' own functions, and then as it did."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


@cache
def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to `KEPT` bytes, for the tensors that come next.

    And let it have pages of 2 MiB for large tensors, if PyTorch has made none yet. Where the C
    library is not glibc, or the user has said how it is to allocate (MALLOC_TRIM_…, MALLOC_MMAP_…,
    GLIBC_TUNABLES; THP_MEM_ALLOC_ENABLE), all stays as it is.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    said = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in said):
        return
    library = ctypes.CDLL(None)
    library.mallopt(_TRIM_THRESHOLD, KEPT)
    library.mallopt(_MMAP_THRESHOLD, MAPPED)


@contextmanager
def quick_products() -> Iterator[None]:
    """Float32 products through oneDNN where that is exact: torch allows it only as "bf16"."""
    with rounded_products(_onednn_is_exact()):
        yield


@contextmanager
def rounded_products(on: bool = True) -> Iterator[None]:
    """Products of float32 tensors through oneDNN, which rounds to bfloat16 where AMX makes it pay.

    All else stays float32, so that nothing is cast in passes of its own, as under autocast. The
    switch is the process's: threads that come and go in any order share it, and the last of them
    puts it back.
    """
    if not on:
        yield
        return
    _SWITCH.enter()
    try:
        yield
    finally:
        _SWITCH.leave()


class _Switch:
    """How many are within `rounded_products`, and what was set before the first of them."""

    def __init__(self) -> None:
        self._lock, self._within, self._before = Lock(), 0, "none"
        self._matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]

    def enter(self) -> None:
        with self._lock:
            if self._within == 0:
                self._before = self._matmul.fp32_precision
                self._matmul.fp32_precision = "bf16"
            self._within += 1

    def leave(self) -> None:
        with self._lock:
            self._within -= 1
            if self._within == 0:
                self._matmul.fp32_precision = self._before


_SWITCH = _Switch()


@cache
def _onednn_is_exact() -> bool:
    """Whether oneDNN keeps float32 here although it may round to bf16: so where there is no AMX.

    On an AMD EPYC 9005 it does, at twice the speed of MKL.
    """
    size = 256
    grid = torch.arange(size * size, dtype=torch.float64).view(size, size)
    left, right = (grid * 0.7).sin(), (grid * 1.3).cos()
    with rounded_products(), torch.no_grad(), torch.autocast("cpu", enabled=False):
        got = torch.nn.functional.linear(left.float(), right.float())
    return bool((got.double() - left @ right.T).abs().max() < 1e-4)


@cache
def bf16_gain() -> float:
    """How many times as fast as float32 this CPU multiplies in bfloat16, measured now.

    With AMX some 3 to 5; without instructions for it far below 1.
    """
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(384, 384, dtype=dtype)
        times = []
        for _ in range(4):
            began = time.perf_counter()
            matrix @ matrix
            times.append(time.perf_counter() - began)
        found.append(min(times))
    return found[0] / found[1]


def bf16_pace() -> str:
    """A sentence's end on what bfloat16 gives on this CPU."""
    return f"its bfloat16 products run at {bf16_gain():.2g} times the pace of float32"
