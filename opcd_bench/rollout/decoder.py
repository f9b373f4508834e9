"""One token of each row at a time through a Llama-like decoder: few operations, weights first.

Decoding on a CPU is many small products, and two things slow them down in transformers' modules:
the operations and calls around them, which take half of a small model's time, and the order of the
factors. ``weight @ states`` of (outputs, inputs) and (inputs, rows) takes a half to three quarters
of the time of ``linear(states)`` where rows are few, so states are kept with the rows last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache

from opcd_bench.models import cpu
from opcd_bench.models.modes import in_eval_mode
from opcd_bench.rollout.attention import Segment, behind_prefixes
from opcd_bench.rollout.kv import GrowingLayer, additive, as_argument, capacity_for, held

ARCHITECTURES = frozenset(
    {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
)
"""Models whose layers are the ones computed here."""
_TRIED: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


class _Linear:
    """A linear layer on states with the rows last: (inputs, rows) -> (outputs, rows)."""

    def __init__(self, module: Any) -> None:
        hooks = module._forward_hooks or module._forward_pre_hooks
        # An adapter's layer, or one that is watched, is asked itself.
        self._whole = None if type(module) is torch.nn.Linear and not hooks else module
        self._weight = module.weight
        self._bias = None if module.bias is None else module.bias[:, None]

    def __call__(self, states: Tensor, out: Tensor | None = None) -> Tensor:
        if self._whole is not None:
            found: Tensor = self._whole(states.t().contiguous()).t()
            return found if out is None else out.copy_(found)
        found = torch.mm(self._weight, states, out=out)
        return found if self._bias is None else found.add_(self._bias)

    def added(self, residual: Tensor, states: Tensor) -> Tensor:
        """The residual and what the layer gives."""
        simple = self._whole is None and self._bias is None and residual.dtype == torch.float32
        if simple:
            return torch.addmm(residual, self._weight, states)
        return residual + self(states)


class _Norm:
    """Root mean square normalisation over the last dimension but one (the last are the rows)."""

    def __init__(self, weight: Tensor, module: Any) -> None:
        self._weight, self._share = weight[..., None], 1.0 / weight.shape[-1]
        # A tensor: a number would be made one at every step.
        self._epsilon = torch.tensor(float(module.variance_epsilon), dtype=torch.float32)

    def __call__(self, states: Tensor) -> Tensor:
        wide = states.float()
        # Not mean(): its division takes as long as all the rest.
        squares = (wide * wide).sum(-2, keepdim=True)
        scale = torch.add(self._epsilon, squares, alpha=self._share).rsqrt_()
        return (wide * scale).to(states.dtype).mul_(self._weight)


class _Layer:
    """What one layer computes with: looked up once, since a step looks at it for every token."""

    def __init__(self, layer: Any, heads: int, shared: int) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.index = int(attention.layer_idx)
        self.query, self.key = _Linear(attention.q_proj), _Linear(attention.k_proj)
        self.value, self.out = _Linear(attention.v_proj), _Linear(attention.o_proj)
        self.gate, self.up, self.down = map(_Linear, (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
        self.activation = mlp.act_fn
        self.before = _Norm(layer.input_layernorm.weight, layer.input_layernorm)
        after = layer.post_attention_layernorm
        self.after = _Norm(after.weight, after)
        self.turned: _Norm | None = None
        if hasattr(attention, "q_norm"):
            of_query, of_key = attention.q_norm.weight, attention.k_norm.weight
            weight = torch.cat([of_query.expand(heads, -1), of_key.expand(shared, -1)])
            self.turned = _Norm(weight, attention.q_norm)


class Decoder:
    """The decoding step of one model, with the weights that it has when this is made."""

    def __init__(self, model: Any) -> None:
        self._decoder, self._head = model.model, _Linear(model.lm_head)
        attention, config = self._decoder.layers[0].self_attn, model.config
        self._size, self._scaling = int(attention.head_dim), float(attention.scaling)
        self._shared, heads = int(config.num_key_value_heads), int(config.num_attention_heads)
        self._groups = heads // self._shared
        self._layers = [_Layer(layer, heads, self._shared) for layer in self._decoder.layers]
        self._norm = _Norm(self._decoder.norm.weight, self._decoder.norm)

    def step(
        self,
        ids_B: Tensor,
        positions_B1: Tensor,
        mask: Tensor,
        cache: Cache,
        segments: Sequence[Segment],
    ) -> Tensor:
        """The logits (rows, vocabulary) after one more token of each row.

        ``mask`` (rows, 1, 1, capacity) is additive over the slots of ``cache``, a cache of
        `GrowingLayer`, to which the token's keys and values are added. ``segments`` name the
        prefixes of the rows. To be called without gradients, in eval mode.
        """
        embedded_B1H = self._decoder.embed_tokens(ids_B[:, None])
        cos_B1S, sin_B1S = self._decoder.rotary_emb(embedded_B1H, position_ids=positions_B1)
        # The sign of the rotation's half goes into the sine, so that a roll does the rest.
        below, above = sin_B1S[:, 0].t().chunk(2)
        turn = cos_B1S[:, 0].t(), torch.cat([-below, above])
        alone = all(prefix is None for _, prefix in segments)
        of_heads = mask[:, 0].repeat_interleave(self._shared, 0) if alone else mask
        states_HB = embedded_B1H[:, 0].t().contiguous()
        layers: Sequence[Any] = cache.layers
        for layer, store in zip(self._layers, layers, strict=True):
            query, key, value = self._projected(layer, layer.before(states_HB), turn)
            keys, values = store.update(key[:, :, None], value[:, :, None])
            if alone:
                mixed_BA = self._mixed(query, keys, values, of_heads)
            else:
                one = (query * self._scaling).flatten(1, 2)[:, :, None]
                mixed = behind_prefixes(one, keys, values, mask, segments, layer.index)
                mixed_BA = mixed.reshape(len(ids_B), -1)
            states_HB = layer.out.added(states_HB, mixed_BA.t())
            inner_HB = layer.after(states_HB)
            gated = layer.activation(layer.gate(inner_HB)).mul_(layer.up(inner_HB))
            states_HB = layer.down.added(states_HB, gated)
        return self._head(self._norm(states_HB)).t().contiguous()

    def _projected(
        self, layer: _Layer, inner_HB: Tensor, turn: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Query and key, turned to their positions, and value.

        (rows, shared heads, heads of each, size), and twice (rows, shared heads, size).
        """
        rows, size, shared = inner_HB.shape[1], self._size, self._shared
        heads = shared * self._groups
        both = heads + shared
        found = inner_HB.new_empty(((both + shared) * size, rows))
        layer.query(inner_HB, found[: heads * size])
        layer.key(inner_HB, found[heads * size : both * size])
        layer.value(inner_HB, found[both * size :])
        places = found.view(both + shared, size, rows)
        straight = places[:both]
        if layer.turned is not None:
            straight = layer.turned(straight)
        cos_SB, sin_SB = turn
        turned = torch.addcmul(straight * cos_SB, straight.roll(size // 2, 1), sin_SB)
        turned = turned.permute(2, 0, 1)
        query = turned[:, :heads].contiguous().view(rows, shared, self._groups, size)
        return query, turned[:, heads:], places[both:].permute(2, 0, 1)

    def _mixed(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Attention of each row to its own slots, (rows, heads x size)."""
        rows, query = query.shape[0], query.flatten(0, 1)
        turned_keys = keys.transpose(2, 3).flatten(0, 1)
        if query.dtype == torch.float32:
            scores = torch.baddbmm(mask, query, turned_keys, alpha=self._scaling)
        else:
            scores = torch.bmm(query * self._scaling, turned_keys).float().add_(mask)
        weights = scores.softmax(-1).to(values.dtype)
        return torch.bmm(weights, values.flatten(0, 1)).view(rows, -1)


def decodes(model: PreTrainedModel) -> bool:
    """Whether the model's decoding step is the one computed here, which is tried once a model."""
    if model.device.type != "cpu" or type(model).__name__ not in ARCHITECTURES:
        return False
    if model not in _TRIED:
        _TRIED[model] = cpu.plain(model) and _agrees(model)
    return _TRIED[model]


@torch.no_grad()
def _agrees(model: Any) -> bool:
    """Whether two steps after a prompt of three tokens give the logits of the model's own pass.

    In bfloat16 two right ways differ by 10 % in a deep model; a wrong one by much more.
    """
    size = model.config.get_text_config().vocab_size
    ids_BT = torch.arange(1, 11).remainder_(size).view(2, 5)
    with in_eval_mode(model), torch.autocast("cpu", enabled=False):
        own = model(input_ids=ids_BT, use_cache=False).logits[:, -2:].float()
        read = DynamicCache(config=model.config)
        model(input_ids=ids_BT[:, :3], use_cache=True, **as_argument(model, read))
        layers: list[Any] = []
        for keys, values in held(read):
            layers.append(GrowingLayer.empty(2, 0, keys, values))
            layers[-1].update(keys, values)
        decoder, cache, found = Decoder(model), Cache(layers=layers), []
        for step in (3, 4):
            open_B1T = torch.arange(capacity_for(step + 1)) <= step
            mask = additive(open_B1T.expand(2, 1, 1, -1), model.dtype)
            places_B1 = torch.full((2, 1), step)
            behind_none = [Segment(2, None)]
            found.append(decoder.step(ids_BT[:, step], places_B1, mask, cache, behind_none))
    ours = torch.stack(found, 1).float()
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.2
    return bool((ours - own).abs().mean() <= tolerance * own.abs().mean())
