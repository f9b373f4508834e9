"""Who samples a suite's replies: transformers, or vLLM in process or served, started once."""

from __future__ import annotations

from functools import cached_property

from opcd_bench.config.suite import Suite
from opcd_bench.errors import ModelError
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.models.model_dir import mapped
from opcd_bench.models.source import source_of
from opcd_bench.rollout.engine import Engine
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.rollout.vllm import ServedEngine, VLLMEngine, WeightSync
from opcd_bench.rollout.vllm_local import started
from opcd_bench.rollout.vllm_probe import verify as verify_weights
from opcd_bench.rollout.vllm_server import VLLMServer

_SERVE_IT = (
    "teacher_url must serve the very weights that teach: start it with that model and --dtype "
    "float32, or use teacher_engine = 'hf'"
)


class Servers:
    """The vLLM servers that a suite names; None where it names none.

    Called before a model is loaded, which may take minutes. Raises as VLLMServer does.
    """

    def __init__(self, suite: Suite) -> None:
        self.student = None if suite.vllm_url is None else VLLMServer(suite.vllm_url)
        self.teacher = None if suite.teacher_url is None else VLLMServer(suite.teacher_url)


class Engines:
    """The engines of a suite; each vLLM is started once, when it is first needed.

    ``initial`` is the student before training.
    """

    def __init__(self, suite: Suite, initial: LoadedModel, servers: Servers) -> None:
        self.suite, self.initial, self._servers = suite, initial, servers
        self._larger: WeightSync | None = None

    def of(self, reader: PromptFormat, *, larger: bool) -> Engine:
        """The engine that samples as ``reader``: a live model, or the served larger teacher."""
        if not isinstance(reader, LoadedModel):
            return ServedEngine(reader, self.server)
        if self.suite.engine == "hf":
            return HFEngine(reader, batch_size=self.suite.rollout_batch_size)
        return VLLMEngine(reader, self._of_larger(reader) if larger else self._student)

    def start(self) -> None:
        """Start the student's vLLM, or find its server, if the suite writes with one.

        Before any cell: a package or server that is missing fails the run, not every cell.
        """
        if self.suite.engine == "vllm":
            _ = self._student

    @cached_property
    def _student(self) -> WeightSync:
        """The vLLM that holds the student, or the model that it was, in turn."""
        server = self._servers.student
        if server is None:
            return self._local(self.initial, self.suite.model, "writer")
        server.check_tokenizer(self.initial.tokenizer, self.suite.model)
        return WeightSync(server)

    def _of_larger(self, larger: LoadedModel) -> WeightSync:
        """The larger teacher's own vLLM: ``vllm_url`` is the student's."""
        if self._larger is None:
            source = str(self.suite.teacher_model)
            self._larger = self._local(larger, source, "writer")
        return self._larger

    def _local(self, loaded: LoadedModel, source: str, role: str) -> WeightSync:
        """A vLLM of this process; weights are pushed, so that ``source`` gives it its shape.

        A teacher's prefix cache is off, unless asked for: no request may change another's scores.
        """
        own: dict[str, object] = {"enable_prefix_caching": False} if role == "teacher" else {}
        revision = self.suite.revision if source == self.suite.model else None
        return started(
            loaded,
            source_of(source, allow_pickle=True, model_dir=self.suite.model_dir),
            revision=revision,
            most_ids=loaded.vocab_size + loaded.padded_rows,
            options={**own, **self.suite.vllm_options},
            role=role,
        )

    @cached_property
    def server(self) -> VLLMServer:
        """The teacher's server, once it is known to read tokens as the student does."""
        server = self._servers.teacher
        assert server is not None
        server.check_tokenizer(self.initial.tokenizer, self.suite.model)
        return server

    def served_larger(self) -> PromptFormat:
        """The larger teacher behind ``teacher_url``, which must serve the suite's teacher_model."""
        name = str(self.suite.teacher_model)
        folder = mapped(name, self.suite.model_dir)
        names = {name.rstrip("/"), *([] if folder is None else [str(folder)])}
        if self.server.model.rstrip("/") not in names:
            raise ModelError(
                f"{self.server.name} serves {self.server.model!r}, and the suite's teacher_model "
                f"is {name!r}. Start it with: vllm serve {name}"
            )
        return PromptFormat(
            name=name,
            tokenizer=self.initial.tokenizer,
            eos_ids=self.initial.eos_ids,
            vocab_size=self.initial.vocab_size,
            max_length=self.server.max_length,
            thinking=self.initial.thinking,
            date=self.initial.date,
        )

    def scoring_vllm(self, weights: LoadedModel | None) -> tuple[WeightSync, int]:
        """A vLLM that scores for a frozen model, and its window in tokens; None: the served larger.

        Raises ModelError where a server at ``teacher_url`` holds other weights.
        """
        if self.suite.teacher_url is not None:
            if weights is not None:
                verify_weights(self.server, weights, _SERVE_IT)
            return WeightSync(self.server), self.server.max_length
        assert weights is not None
        larger = weights.name == self.suite.teacher_model
        source = str(self.suite.teacher_model) if larger else self.suite.model
        return self._local(weights, source, "teacher"), weights.max_length
