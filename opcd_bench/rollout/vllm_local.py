"""An engine of vLLM in this process, whose weights are reloaded in place and never rebuilt."""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from opcd_bench.errors import ConfigError, EngineDied, MissingPackage, ModelError
from opcd_bench.models import adapters, random_states
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.source import first_line, source_of
from opcd_bench.progress import beat
from opcd_bench.rollout.engine import Request, Sampling
from opcd_bench.rollout.vllm import (
    PromptLogProbs,
    RawReply,
    WeightSync,
    finish_of,
    sampling_words,
)

SHARE_OF_GPU = 0.4
"""Of the GPU's memory for vLLM's weights and cache, unless the options say otherwise: the trainer
lives beside it."""

WHOLE_PROMPTS = {"enable_chunked_prefill": False}
"""On a CPU a prompt is read at once: vLLM 0.32 fails there where a seeded request's is cut."""


class LocalVLLM:
    """One ``vllm.LLM`` in this process.

    ``source`` is the suite's model (Hub id, folder or ``micro``), ``most_ids`` the most log-probs
    that will be asked at a position, ``options`` go to ``vllm.LLM`` as they are. Raises
    MissingPackage, or ModelError where vLLM cannot serve the model.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        source: str,
        *,
        revision: str | None = None,
        most_ids: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = "vLLM in process"
        self.shared = False
        self.vllm = _module()
        on_gpu = loaded.device.type == "cuda"
        given: dict[str, Any] = {
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "max_model_len": loaded.max_length,
            "max_logprobs": max(most_ids, 1),
            "logprobs_mode": "raw_logprobs",
            "enforce_eager": not on_gpu,
            "disable_log_stats": True,
            **({"gpu_memory_utilization": SHARE_OF_GPU} if on_gpu else WHOLE_PROMPTS),
            **(options or {}),
        }
        with random_states.kept():  # starting vLLM seeds this process
            try:
                self.llm: Any = self.vllm.LLM(
                    model=source_of(source, allow_pickle=True), revision=revision, **given
                )
            except TypeError as error:
                raise ConfigError(f"vllm_options: {first_line(error)}") from error
            except (ValueError, RuntimeError, OSError) as error:
                raise ModelError(
                    f"vLLM cannot serve {source!r} ({first_line(error)}). If its cache is too "
                    "small for the context window, set a larger gpu_memory_utilization or a "
                    "smaller max_model_len in vllm_options; if the GPU is full, a smaller "
                    "gpu_memory_utilization; or use engine = 'hf'"
                ) from error
        config = self.llm.llm_engine.vllm_config
        self.biases = config.speculative_config is None
        fields = self.vllm.SamplingParams.__struct_fields__
        self.arbitrary_ids = "prompt_logprob_token_ids" in fields and bool(
            config.use_v2_model_runner
        )

    def write(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        stop_ids: Sequence[int],
        padding: Sequence[int] = (),
    ) -> list[RawReply]:
        """One reply a request, in order; each draws its noise from its own seed."""
        params = [
            self.vllm.SamplingParams(
                **sampling_words(request, sampling, stop_ids, padding), detokenize=False
            )
            for request in requests
        ]
        found = []
        for output in self._run([r.prompt_ids for r in requests], params):
            one = output.outputs[0]
            logprobs = tuple(
                row[token].logprob for token, row in zip(one.token_ids, one.logprobs, strict=True)
            )
            found.append(RawReply(tuple(one.token_ids), logprobs, finish_of(one.finish_reason)))
        return found

    def score(
        self,
        sequences: Sequence[tuple[int, ...]],
        top: int,
        asked: Sequence[Sequence[Sequence[int]]] | None = None,
    ) -> list[PromptLogProbs]:
        """Prompt log-probs; ``asked`` needs vLLM's prompt_logprob_token_ids."""
        if asked is not None:
            return self._at(sequences, asked)
        params = [
            self.vllm.SamplingParams(
                max_tokens=1, temperature=0.0, prompt_logprobs=top, detokenize=False,
                flat_logprobs=True,
            )
        ] * len(sequences)  # fmt: skip
        outputs = self._run(sequences, params)
        return [
            _of_flat(sequence, output.prompt_logprobs)
            for sequence, output in zip(sequences, outputs, strict=True)
        ]

    def _at(
        self, sequences: Sequence[tuple[int, ...]], asked: Sequence[Sequence[Sequence[int]]]
    ) -> list[PromptLogProbs]:
        """Log-probs at the asked ids of the last rows; the own token is asked beside them."""
        params, wanted = [], []
        for sequence, rows in zip(sequences, asked, strict=True):
            own = sequence[len(sequence) - len(rows) :]
            wanted.append([[token, *ids] for token, ids in zip(own, rows, strict=True)])
            params.append(
                self.vllm.SamplingParams(
                    max_tokens=1,
                    temperature=0.0,
                    prompt_logprob_token_ids=wanted[-1],
                    prompt_logprob_start=len(sequence) - len(rows) - 1,
                    detokenize=False,
                )
            )
        found = []
        for rows, output in zip(wanted, self._run(sequences, params), strict=True):
            scores = np.asarray(output.prompt_token_id_logprobs).tolist()
            found.append(
                PromptLogProbs(
                    own=tuple(row[0] for row in scores),
                    ids=tuple(tuple(row[1:]) for row in rows),
                    logps=tuple(
                        tuple(row[1 : len(ids)]) for row, ids in zip(scores, rows, strict=True)
                    ),
                )
            )
        return found

    def load(self, loaded: LoadedModel) -> None:
        """Reload the weights in place, from the trainer's tensors; the prefix cache is emptied."""
        weights = adapters.weights(loaded).items()
        self._guarded(
            lambda: self.llm.collective_rpc(
                "reload_weights", kwargs={"weights_iterator": iter(weights)}
            )
        )
        self.llm.apply_model(_repack_heads)
        if not self.llm.reset_prefix_cache():
            raise ModelError(
                f"{self.name} did not empty its prefix cache after new weights, so it would mix "
                "them with what the old ones computed: requests that did not end hold its blocks. "
                "Type the same command again, which starts it anew"
            )

    def _run(self, prompts: Sequence[Sequence[int]], params: Sequence[Any]) -> list[Any]:
        inputs = [{"prompt_token_ids": list(ids)} for ids in prompts]
        try:
            outputs: list[Any] = self._guarded(
                lambda: self.llm.generate(inputs, list(params), use_tqdm=_Heard)
            )
        except EngineDied:
            raise
        except BaseException as error:
            self._abandon(error)
            raise
        return outputs

    def _abandon(self, error: BaseException) -> None:
        """Abort all unfinished requests, which vLLM keeps after an error in its own loop.

        They would hold blocks of the prefix cache, and answer among those of the next call.
        """
        engine = self.llm.llm_engine
        try:
            engine.abort_request(list(engine.output_processor.request_states), internal=True)
        except Exception as second:
            raise EngineDied(
                f"vLLM failed ({first_line(error)}) and cannot drop its requests "
                f"({first_line(second)}), so it cannot go on. Nothing is lost: type the same "
                "command again; if memory ran out, with a smaller gpu_memory_utilization or "
                "max_num_seqs in vllm_options"
            ) from error

    def _guarded(self, call: Any) -> Any:
        dead = importlib.import_module("vllm.v1.engine.exceptions").EngineDeadError
        try:
            return call()
        except dead as error:
            raise EngineDied(
                f"the vLLM engine died ({first_line(error)}; its own log says why). Nothing is "
                "lost: type the same command again; if memory ran out, with a smaller "
                "gpu_memory_utilization or max_num_seqs in vllm_options"
            ) from error


class _Heard(tqdm):  # type: ignore[misc]
    """vLLM's progress bar, which is not drawn: what it counts moves the line of our own."""

    monitor_interval = 0

    def __init__(self, *args: Any, **words: Any) -> None:
        super().__init__(*args, **{**words, "file": io.StringIO()})

    def update(self, n: float | None = 1) -> bool | None:
        """``n`` more are done."""
        drawn: bool | None = super().update(n)
        beat(vllm=f"{self.n}/{self.total} prompts")
        return drawn


_STARTED: dict[tuple[Any, ...], WeightSync] = {}


def started(
    loaded: LoadedModel,
    source: str,
    *,
    revision: str | None,
    most_ids: int,
    options: Mapping[str, Any],
    role: str,
) -> WeightSync:
    """The vLLM of this process for a model and a role, started where there is none yet.

    Suites, and rounds of one, that come after each other share it: whoever uses it pushes weights.
    """
    shape = (loaded.dtype, str(loaded.device), loaded.max_length, loaded.vocab_size)
    key = (source, revision, role, *shape, repr(sorted(options.items())))
    if key not in _STARTED:
        _STARTED[key] = WeightSync(
            LocalVLLM(loaded, source, revision=revision, most_ids=most_ids, options=options)
        )
    return _STARTED[key]


def _of_flat(sequence: Sequence[int], flat: Any) -> PromptLogProbs:
    """Rows of vLLM's flat list, whose first position has none and whose rows begin with the own."""
    own, ids, logps = [], [], []
    for position in range(1, len(sequence)):
        row = slice(flat.start_indices[position], flat.end_indices[position])
        tokens, values = flat.token_ids[row], flat.logprobs[row]
        own.append(values[tokens.index(sequence[position])])
        ids.append(tuple(tokens))
        logps.append(tuple(values))
    return PromptLogProbs(tuple(own), tuple(ids), tuple(logps))


def _repack_heads(model: torch.nn.Module) -> None:
    """Pack LM heads again: on a CPU vLLM keeps a packed copy, which tied weights do not refresh."""
    head = importlib.import_module("vllm.model_executor.layers.vocab_parallel_embedding")
    for module in model.modules():
        if isinstance(module, head.ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)


def _module() -> Any:
    """The vllm package, told to run in this process: weights then need no copy between processes.

    Its own variables are set only where the user has not set them.
    """
    if importlib.util.find_spec("vllm") is None:
        raise MissingPackage("vllm", "pip install 'opcd-bench[vllm]'", "engine = 'vllm'")
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    for name, value in (
        ("VLLM_LOGGING_LEVEL", "ERROR"),
        ("VLLM_NO_USAGE_STATS", "1"),
        ("VLLM_CPU_KVCACHE_SPACE", "1"),
        ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
    ):
        os.environ.setdefault(name, value)
    return importlib.import_module("vllm")
