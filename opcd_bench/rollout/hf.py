"""The default engine: batched sampling with a transformers model in memory, as it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from opcd_bench.errors import LEAVE_OUT, Diverged
from opcd_bench.models import adapters, cpu
from opcd_bench.models.decoded import reply_text
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.modes import in_eval_mode
from opcd_bench.progress import beat
from opcd_bench.rollout.attention import Segment, behind, fast_on_cpu, of_rows
from opcd_bench.rollout.decoder import Decoder, decodes
from opcd_bench.rollout.draw import draw, uniforms
from opcd_bench.rollout.engine import Reply, Request, Sampling, check_requests
from opcd_bench.rollout.kv import additive, as_argument, capacity_for
from opcd_bench.rollout.prefill import Prefilled, last_of, prefill
from opcd_bench.rollout.prefixes import Ids, Prefixes

_BEAT = 8
_COMPACT_BELOW = 0.9
"""Finished rows are dropped from the cache once fewer than this share of its rows is live."""


class HFEngine:
    """Replies from the live module: after an optimiser step it needs nothing.

    ``batch_size`` is the most replies written at a time. Neither the module's train/eval modes nor
    torch's random state are changed by ``generate``.
    """

    protocol_name = "HFEngine"

    def __init__(self, loaded: LoadedModel, *, batch_size: int = 64) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, not {batch_size}")
        self.loaded = loaded
        self.batch_size = batch_size
        self._plain = cpu.plain(loaded.model)
        self._direct = decodes(loaded.model)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Reply]:
        """One reply a request, in order.

        Each reply depends on its own prompt and seed; batch mates change its logits by round-off
        alone. Raises DataError for a prompt that is empty or too long for the model, Diverged if
        the model's logits are not finite.
        """
        check_requests(requests, sampling, self.loaded.name, self.loaded.max_length)
        prefixes = Prefixes(self.loaded)
        prefixes.plan(request.prompt_ids for request in requests)

        def key(i: int) -> tuple[int, Ids, int, Ids]:
            prompt = requests[i].prompt_ids
            return len(prefixes.of(prompt)), prefixes.of(prompt), len(prompt), prompt

        # Prompts of one prefix become neighbours, and among them equal ones: one prefill serves
        # them. Order breaks no tie.
        order = sorted(range(len(requests)), key=key)
        replies: list[Reply | None] = [None] * len(requests)
        with _quiet(self.loaded, self._plain):
            after = Decoder(self.loaded.model).step if self._direct else self._after
            for begin in range(0, len(order), self.batch_size):
                batch = order[begin : begin + self.batch_size]
                written = self._batch([requests[i] for i in batch], sampling, prefixes, after)
                for i, reply in zip(batch, written, strict=True):
                    replies[i] = reply
        return [reply for reply in replies if reply is not None]

    def _prefilled(self, prompts: Sequence[Ids], prefixes: Prefixes) -> Prefilled:
        loaded = self.loaded
        if self._plain:
            return prefill(loaded, prompts, prefixes)
        width = max(map(len, prompts))
        padded = [(loaded.pad_id,) * (width - len(p)) + p for p in prompts]
        pads_B1 = torch.tensor([[width - len(p)] for p in prompts], device=loaded.model.device)
        slots = torch.arange(width, device=loaded.model.device)
        real_BT = slots[None] >= pads_B1
        cache = DynamicCache(config=loaded.model.config)
        out = loaded.model(
            input_ids=torch.tensor(padded, device=loaded.model.device),
            attention_mask=real_BT.long(),
            position_ids=(slots[None] - pads_B1).clamp_(min=0),
            use_cache=True,
            logits_to_keep=last_of(width, loaded.model.device),
            **as_argument(loaded.model, cache),
        )
        return Prefilled(cache, real_BT, out.logits[:, -1], [Segment(len(prompts), None)])

    def _batch(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        prefixes: Prefixes,
        after: Callable[[Tensor, Tensor, Tensor, Cache, Sequence[Segment]], Tensor],
    ) -> list[Reply]:
        device, vocabulary = self.loaded.model.device, self.loaded.vocab_size
        most, count = sampling.max_completion_length, len(requests)
        noise_BT = torch.from_numpy(uniforms([r.seed for r in requests], most)).to(device)
        eos = torch.tensor(self.loaded.eos_ids, device=device)
        cache, real_BT, logits_BV, segments = self._prefilled(
            [r.prompt_ids for r in requests], prefixes
        )
        mask = self._mask(real_BT, most)
        filled = real_BT.shape[1]
        lengths_B1 = torch.tensor([[len(r.prompt_ids)] for r in requests], device=device)
        rows = torch.arange(count, device=device)
        live = torch.ones(count, dtype=torch.bool, device=device)
        ids_BT = torch.zeros((count, most), dtype=torch.long, device=device)
        logp_BT = torch.zeros((count, most), device=device)
        written_B = torch.full((count,), most, device=device)
        stopped_B = torch.zeros(count, dtype=torch.bool, device=device)
        for step in range(most):
            if step % _BEAT == 0:
                beat(writing=f"token {step}/{most} of {count} responses")
            ids, logp = draw(logits_BV[:, :vocabulary], noise_BT[rows, step], sampling)
            ids_BT[rows, step], logp_BT[rows, step] = ids, logp
            ended = live & torch.isin(ids, eos)
            live &= ~ended
            written_B[rows[ended]] = step + 1
            stopped_B[rows[ended]] = True
            remaining = int(live.sum())
            if remaining == 0 or step + 1 == most:
                break
            if remaining < _COMPACT_BELOW * len(rows) and _selectable(cache):
                keep = live.nonzero()[:, 0]
                cache.batch_select_indices(keep)
                segments = of_rows(segments, live.tolist())
                mask, lengths_B1, ids, rows = mask[keep], lengths_B1[keep], ids[keep], rows[keep]
                live = live[keep]
            filled += 1
            if self._plain:
                mask[..., filled - 1] = 0.0
            open_mask = mask[..., : capacity_for(filled) if self._plain else filled]
            logits_BV = after(ids, lengths_B1 + step, open_mask, cache, segments)
        return self._replies(ids_BT, logp_BT, written_B, stopped_B)

    def _after(
        self,
        ids_B: Tensor,
        positions_B1: Tensor,
        mask: Tensor,
        cache: Cache,
        segments: Sequence[Segment],
    ) -> Tensor:
        """The logits after one more token of each row, by the module's own forward pass."""
        model = self.loaded.model
        with behind(model, segments):
            logits: Tensor = model(
                input_ids=ids_B[:, None],
                attention_mask=mask,
                position_ids=positions_B1,
                use_cache=True,
                **as_argument(model, cache),
            ).logits
        return logits[:, -1]

    def _mask(self, real_BT: Tensor, room: int) -> Tensor:
        """The mask of all steps: additive, 4-D, new slots shut; 2-D where layers differ."""
        if self._plain:
            more = capacity_for(real_BT.shape[1] + room) - real_BT.shape[1]
            real_BT = torch.nn.functional.pad(real_BT, (0, more), value=False)
            return additive(real_BT[:, None, None], self.loaded.model.dtype)
        return torch.nn.functional.pad(real_BT, (0, room), value=True).long()

    def _replies(
        self, ids_BT: Tensor, logp_BT: Tensor, written_B: Tensor, stopped_B: Tensor
    ) -> list[Reply]:
        replies = []
        for ids, logps, length, stopped in zip(
            ids_BT.tolist(), logp_BT.tolist(), written_B.tolist(), stopped_B.tolist(), strict=True
        ):
            logprobs = tuple(round(x, 6) for x in logps[:length])
            if not all(x > -float("inf") for x in logprobs):
                raise Diverged(
                    f"model {self.loaded.name!r} gave logits that are not finite during "
                    f"generation, so its weights have diverged; {LEAVE_OUT}"
                )
            text = reply_text(self.loaded.tokenizer, ids[:length])
            replies.append(
                Reply(tuple(ids[:length]), logprobs, text, "stop" if stopped else "length")
            )
        return replies


def _selectable(cache: Cache) -> bool:
    return all(hasattr(layer, "batch_select_indices") for layer in cache.layers)


@contextmanager
def _quiet(loaded: LoadedModel, plain: bool) -> Iterator[None]:
    """Eval mode, no gradients and the model's own precision; every module's mode is put back."""
    with (
        in_eval_mode(loaded.model),
        torch.no_grad(),
        adapters.active(loaded),
        torch.autocast(loaded.model.device.type, enabled=False),
        fast_on_cpu(loaded.model, additive_masks=plain),
    ):
        yield
