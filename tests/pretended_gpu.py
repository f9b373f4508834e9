"""A GPU that is pretended: its tensors say cuda:0, hold numbers, and mix with no others.

What they hold lies in the CPU's memory and is computed there, so the branches that a GPU takes run
with numbers where there is none. Without gradients.
"""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from opcd_bench.models.loaded import LoadedModel

GPU = torch.device("cuda", 0)
_OUTPUT_TYPE = torch.ops.aten.bmm.dtype
"""A product with another type than its factors, which PyTorch has on GPUs alone."""


class OnGpu(torch.Tensor):
    """``inner``, a tensor of the CPU, as one of the GPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=GPU,
        )  # fmt: skip
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return computed(function, args, kwargs or {})

    # A PyTorch that is made for CPUs asks for a GPU in these methods before it dispatches.

    def __getitem__(self, places):
        return OnGpu(self.inner[held(places)])

    def __setitem__(self, places, value):
        self.inner[held(places)] = held(value)

    def __invert__(self):
        return OnGpu(~self.inner)

    def __int__(self):
        return int(self.inner)

    def __float__(self):
        return float(self.inner)

    def __repr__(self, **_):
        return f"OnGpu({self.inner!r})"

    def contiguous(self, **_):
        return OnGpu(self.inner.contiguous())

    def nonzero(self, **_):
        return OnGpu(self.inner.nonzero())

    def tolist(self):
        return self.inner.tolist()


def held(given, *, here=True):
    """What tensors hold. ``here``: they are together on the GPU, but for single numbers."""

    def one(x):
        if isinstance(x, OnGpu):
            return x.inner
        if here and isinstance(x, torch.Tensor) and x.dim():
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                "cuda:0 and cpu!"
            )
        return x

    return tree_map(one, given)


def computed(function, args, kwargs):
    """An operator's result, on the GPU where its tensors are or where it is asked for."""
    copies = function is torch.ops.aten.copy_.default
    leaves = [args[0]] if copies else tree_leaves((args, kwargs))
    here = any(isinstance(x, OnGpu) for x in leaves)
    inner, words = held((args, dict(kwargs)), here=here and not copies)
    there = here
    if words.get("device") is not None:
        there = torch.device(words["device"]).type == "cuda"
        words["device"] = torch.device("cpu")
    if function is _OUTPUT_TYPE:
        left, right, dtype = inner
        assert left.dtype == right.dtype and dtype == torch.float32
        found = torch.bmm(left.float(), right.float())
    else:
        found = function(*inner, **words)
    if not there:
        return found
    found = tree_map(lambda x: OnGpu(x) if isinstance(x, torch.Tensor) else x, found)
    return return_and_correct_aliasing(function, args, kwargs, found) if here else found


class PretendedGpu(TorchDispatchMode):
    """Within it tensors can be made on the GPU and sent there."""

    _mode_key = torch._C._TorchDispatchModeKey.FAKE
    """By which PyTorch knows that no GPU has to be initialised."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return computed(function, args, kwargs or {})

    def __enter__(self):
        # torch.tensor makes its tensor on the CPU then, and sends it in a step of its own.
        self._before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(self._before)
        return super().__exit__(*error)


def sent(loaded: LoadedModel) -> LoadedModel:
    """A copy of a model, on the GPU."""
    module = copy.deepcopy(loaded.model)
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        return dataclasses.replace(loaded, model=module.to(GPU), device=GPU)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
