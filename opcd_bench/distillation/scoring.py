"""One pass over replies behind their prompts: hidden states at reply positions, and logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from opcd_bench.distillation.pairs import Pair
from opcd_bench.errors import DataError, ModelError
from opcd_bench.models import adapters, cpu, shards
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.models.modes import in_eval_mode
from opcd_bench.rollout.attention import Segment
from opcd_bench.rollout.packing import Packing, packed
from opcd_bench.rollout.prefixes import Ids, Prefixes

HEAD_CHUNK = 4096
HEAD_LOGITS = 2**27
"""Most reply positions that pass the LM head at a time, and most logits: no (tokens, vocabulary)
tensor is ever whole. A vocabulary of 151,936 gets 883 positions, half a GiB a float32 copy."""


@dataclass(frozen=True)
class HiddenStates:
    """Last hidden states at the positions that predict reply tokens, packed over the replies.

    ``states_NH``: N = sum of the reply lengths; ``target_N``: the reply token that each predicts;
    ``reply_N``: the index of the reply that each belongs to.
    """

    states_NH: Tensor
    target_N: Tensor
    reply_N: Tensor


def hidden_states(
    loaded: LoadedModel,
    prompts: Sequence[Ids],
    replies: Sequence[Ids],
    prefixes: Prefixes | None = None,
) -> HiddenStates:
    """One forward pass over prompt + reply; only the positions that predict the reply are kept.

    Prompts that share one of ``prefixes`` are read behind it, without gradient to it. Raises
    DataError for what exceeds the model's window (nothing is ever cut).
    """
    refuse_overlong(loaded, max(len(p) + len(r) for p, r in zip(prompts, replies, strict=True)))
    shared = [len(prefixes.of(prompt)) if prefixes else 0 for prompt in prompts]
    # Rows of one prefix are neighbours in the batch, whatever the order of the replies.
    order = sorted(range(len(prompts)), key=lambda i: prompts[i][: shared[i]])
    rows = [[*prompts[i][shared[i] :], *replies[i]] for i in order]
    with adapters.active(loaded):
        segments = prefixes.segments([prompts[i] for i in order]) if prefixes else []
        if _packs(loaded.model):
            states_TH, begins = _packed(loaded, rows, [shared[i] for i in order], segments)
        else:
            assert not any(shared), "only plain attention shares prefixes, and without gradient"
            states_TH, begins = _padded(loaded, rows)
    # The token before each reply token predicts it.
    ends = {i: begins[row] + len(rows[row]) - 1 for row, i in enumerate(order)}
    places = [
        place for i, reply in enumerate(replies) for place in range(ends[i] - len(reply), ends[i])
    ]
    belongs = [i for i, reply in enumerate(replies) for _ in reply]
    device = states_TH.device
    return HiddenStates(
        states_NH=states_TH.index_select(0, torch.tensor(places, device=device)),
        target_N=torch.tensor([token for reply in replies for token in reply], device=device),
        reply_N=torch.tensor(belongs, device=device),
    )


def refuse_overlong(reader: PromptFormat, longest: int) -> None:
    """Raise DataError for so many tokens of prompt and reply, where the model reads fewer."""
    if reader.max_length is not None and longest > reader.max_length:
        raise DataError(
            f"a prompt and response of {longest} tokens exceed the {reader.max_length} that "
            f"{reader.name} can read; lower max_completion_length, or shorten the context"
        )


def _packs(model: PreTrainedModel) -> bool:
    """Whether sequences may share a row."""
    return cpu.plain(model)


def _packed(
    loaded: LoadedModel,
    rows: Sequence[Sequence[int]],
    shared: Sequence[int],
    segments: Sequence[Segment],
) -> tuple[Tensor, list[int]]:
    """Last hidden states of all tokens, (total, H), and where each row begins.

    Each row is read behind so many tokens of its segment's prefix.
    """
    model: Any = loaded.model
    packing = Packing([len(row) for row in rows], model.device)
    ids = torch.tensor([[token for row in rows for token in row]], device=model.device)
    with packed(model, packing, segments):
        out = shards.decoder(model)(
            input_ids=ids, position_ids=packing.positions(shared), use_cache=False
        )
    return out.last_hidden_state[0], list(accumulate(packing.lengths, initial=0))


def _padded(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> tuple[Tensor, list[int]]:
    """The same of rows padded on the right, for attention that is not plain.

    With causal attention a token never sees what follows it, so padding needs no mask and changes
    nothing.
    """
    model: Any = loaded.model
    width = max(map(len, rows))
    ids_BT = torch.tensor([[*row, *[loaded.pad_id] * (width - len(row))] for row in rows])
    out = shards.decoder(model)(input_ids=ids_BT.to(model.device), use_cache=False)
    return out.last_hidden_state.flatten(0, 1), [width * row for row in range(len(rows))]


def plain_states(student: LoadedModel, pairs: Sequence[Pair]) -> HiddenStates:
    """The student's pass over the replies, each behind its plain prompt."""
    return hidden_states(student, [p.plain_ids for p in pairs], [p.reply_ids for p in pairs])


@torch.no_grad()
def told_states(
    teacher: LoadedModel, pairs: Sequence[Pair], prefixes: Prefixes | None = None
) -> HiddenStates:
    """A teacher's pass over the same replies, each behind its told prompt; without gradient."""
    told, replies = [p.told_ids for p in pairs], [p.reply_ids for p in pairs]
    return hidden_states(teacher, told, replies, prefixes)


def logits(loaded: LoadedModel, states_NH: Tensor, temperature: float = 1.0) -> Tensor:
    """LM-head logits over the temperature, shape (N, V): V is the tokenizer's size.

    Padded embedding rows are cut off.

    Accumulates in float32 at least; float64 is kept.
    """
    model: Any = loaded.model
    out_NV: Tensor = model.get_output_embeddings()(states_NH)
    out_NV = out_NV[..., : loaded.vocab_size]
    if out_NV.dtype != torch.float64:
        out_NV = out_NV.float()
    cap = getattr(loaded.model.config.get_text_config(), "final_logit_softcapping", None)
    if cap is not None:
        out_NV = cap * torch.tanh(out_NV / cap)
    return out_NV if temperature == 1.0 else out_NV / temperature  # at 1 a copy for nothing


def head_chunk(head_rows: int) -> int:
    """How many reply positions pass an LM head of so many rows at a time."""
    return max(1, min(HEAD_CHUNK, HEAD_LOGITS // head_rows))


def chunks(loaded: LoadedModel, n: int) -> Iterator[slice]:
    """Slices that cover range(n): positions that pass the model's LM head at a time."""
    size = head_chunk(loaded.vocab_size + loaded.padded_rows)
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


@torch.no_grad()
def assert_faithful(loaded: LoadedModel) -> None:
    """Raise ModelError if decoder and head taken apart do not give the model's own logits.

    Some architectures scale or cap logits after the head; a loss on other logits than the model
    samples from would be wrong without a word.
    """
    ids = torch.arange(min(8, loaded.vocab_size), device=loaded.model.device)[None]
    model: Any = loaded.model
    with in_eval_mode(model):
        own = model(input_ids=ids, use_cache=False).logits[0, :, : loaded.vocab_size].float()
        states = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]
        apart = logits(loaded, states).float()
    tolerance = 1e-4 if loaded.model.dtype == torch.float32 else 5e-2
    if not torch.allclose(own, apart, atol=tolerance, rtol=tolerance):
        raise ModelError(
            f"{loaded.name}: its logits are not its LM head on its last hidden state (largest "
            f"difference {(own - apart).abs().max().item():.3g}); this architecture transforms "
            "them in a way that opcd_bench.distillation.scoring.logits does not know yet"
        )
