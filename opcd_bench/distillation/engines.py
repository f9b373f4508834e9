"""Who writes a suite's replies, and who scores them where the teacher is behind vLLM."""

from __future__ import annotations

from functools import cached_property

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.served import served
from opcd_bench.distillation.method import Loss, Method
from opcd_bench.distillation.top_k_teacher import TopKTeacher
from opcd_bench.errors import InvalidLoss, ModelError
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.rollout.engine import Engine
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.rollout.vllm import RAW_TEMPERATURE, ServedEngine, VLLMEngine, WeightSync
from opcd_bench.rollout.vllm import verify as verify_weights
from opcd_bench.rollout.vllm_local import started
from opcd_bench.rollout.vllm_server import VLLMServer

_SERVE_IT = (
    "teacher_url must serve the very weights that teach: start it with that model and --dtype "
    "float32, or use teacher_engine = 'hf'"
)


class Serving:
    """Engines and vLLM teachers of a suite; each vLLM is started once, when it is first needed.

    ``initial`` is the student before training.
    """

    def __init__(self, suite: Suite, initial: LoadedModel) -> None:
        self.suite, self.initial = suite, initial
        self._larger: WeightSync | None = None
        self._teachers: dict[str, TopKTeacher] = {}

    # --- writing ------------------------------------------------------------------------------

    def writer(self, reader: PromptFormat, *, larger: bool) -> Engine:
        """The engine that writes as ``reader``: a live model, or the served larger teacher."""
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
        if self.suite.vllm_url is None:
            return self._local(self.initial, self.suite.model, "writer")
        server = VLLMServer(self.suite.vllm_url)
        server.check_tokenizer(self.initial.tokenizer, self.suite.model)
        return WeightSync(server)

    def _of_larger(self, larger: LoadedModel) -> WeightSync:
        """The larger teacher's own vLLM: ``vllm_url`` is the student's."""
        if self._larger is None:
            source = str(self.suite.teacher_model)
            self._larger = self._local(larger, source, "writer")
        return self._larger

    def _local(self, loaded: LoadedModel, source: str, role: str) -> WeightSync:
        """A vLLM of this process; weights are pushed, so that ``source`` gives it its shape."""
        revision = self.suite.revision if source == self.suite.model else None
        return started(
            loaded,
            source,
            revision=revision,
            most_ids=loaded.vocab_size,
            options=self.suite.vllm_options,
            role=role,
        )

    # --- teaching -----------------------------------------------------------------------------

    @cached_property
    def server(self) -> VLLMServer:
        """The teacher's server, once it is known to read tokens as the student does."""
        assert self.suite.teacher_url is not None
        server = VLLMServer(self.suite.teacher_url)
        server.check_tokenizer(self.initial.tokenizer, self.suite.model)
        return server

    def served_larger(self) -> PromptFormat:
        """The larger teacher behind ``teacher_url``, which must serve the suite's teacher_model."""
        name = str(self.suite.teacher_model)
        if self.server.model.rstrip("/") != name.rstrip("/"):
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
        )

    def teacher(self, weights: LoadedModel | None) -> TopKTeacher:
        """The vLLM teacher with a frozen model's weights; None: the served larger one."""
        key = "served" if weights is None else weights.name
        if key not in self._teachers:
            self._teachers[key] = self._teacher(weights)
        return self._teachers[key]

    def _teacher(self, weights: LoadedModel | None) -> TopKTeacher:
        if self.suite.teacher_url is not None:
            if weights is not None:
                verify_weights(self.server, weights, _SERVE_IT)
            return TopKTeacher(self.server, None, self.server.max_length)
        assert weights is not None
        larger = weights.name == self.suite.teacher_model
        source = str(self.suite.teacher_model) if larger else self.suite.model
        return TopKTeacher(self._local(weights, source, "teacher"), weights, weights.max_length)

    def loss_of(self, method: Method, teacher: TopKTeacher | None) -> Loss:
        """The method's loss as its teacher serves it; InvalidLoss where it cannot.

        ``teacher`` None is one in this process, or a loss that reads none.
        """
        suite, loss = self.suite, method.loss
        if (
            suite.engine == "vllm"
            and suite.temperature != RAW_TEMPERATURE
            and isinstance(loss, Divergence)
            and loss.importance_weight
        ):
            raise InvalidLoss(
                f"method {method.name!r}: its importance weight needs the writer's log-probs at "
                f"temperature = {suite.temperature:g}, and vLLM gives them at 1. Set temperature "
                "= 1, or engine = 'hf'"
            )
        if teacher is None:
            return loss
        if not isinstance(loss, Divergence):
            raise InvalidLoss(
                f"method {method.name!r}: its own loss function reads the teacher's logits, which "
                "vLLM does not give. Use teacher_engine = 'hf'"
            )
        try:
            return served(
                loss, teacher.tier, missing_ids=suite.missing_ids, temperature=suite.temperature
            )
        except InvalidLoss as error:
            raise InvalidLoss(f"method {method.name!r}: {error}") from None


def refuse_moving_teacher(method: Method) -> None:
    """Raise InvalidLoss for a teacher that vLLM cannot be: one that moves, or whose rows do."""
    teacher = method.teacher
    if teacher.weights in ("ema", "live") or teacher.rows == "shuffled":
        what = f"weights = {teacher.weights!r}" if teacher.rows == "aligned" else "shuffled rows"
        raise InvalidLoss(
            f"method {method.name!r}: a teacher with {what} is read in this process; use "
            "teacher_engine = 'hf'"
        )
