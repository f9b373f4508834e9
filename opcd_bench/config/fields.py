"""The settings of a suite: each declared once, with its default, its bounds and its class."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from opcd_bench.config import words
from opcd_bench.config.experience import Experience
from opcd_bench.envs.task import Placement


def identity(default: Any = ..., *, help: str, **limits: Any) -> Any:
    """A field that numbers depend on: it enters the run's identity."""
    return Field(default, description=help, json_schema_extra={"class": "identity"}, **limits)


def later(default: Any, *, help: str, **limits: Any) -> Any:
    """An identity field younger than sealed runs: at its default it is left out of the identity.

    So those runs, made as the default says, keep their names.
    """
    return Field(
        default, description=help, json_schema_extra={"class": "identity", "later": True}, **limits
    )


def runtime(default: Any = ..., *, help: str, **limits: Any) -> Any:
    """A field that changes no number: where to write, what to show, how many at a time."""
    return Field(default, description=help, json_schema_extra={"class": "runtime"}, **limits)


GRID_FIELDS = (
    "context",
    "context_placement",
    "headline_learning_rate",
    "learning_rate",
    "methods",
    "rounds",
    "seeds",
    "sweep_seeds",
    "task_settings",
    "tasks",
)
"""What a grid is made of: none of it enters the identity of a cell as it stands.

Methods and tasks enter it by their description. So do contexts, in their task's (`context_hash`):
by content, whatever their files are called; a task without any keeps the identity that it had
before suites could give some.
"""


class Settings(BaseModel):
    """Every setting of a suite by itself; `suite.Suite` adds what settings ask of each other.

    Names follow TRL's where the meaning is the same. Written as TOML; every field can be given on
    the command line (``--set key=value``), the common ones as options of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str = runtime("custom", help="The suite's name: its folder under results/.")
    summary: str = runtime("", help="One line on what the suite is for.")

    methods: tuple[str, ...] = identity(
        help="Methods to compare: names (opcd), with parameters (opcd[k=4]), or files "
        "(./my_method.py).",
        min_length=1,
    )
    tasks: tuple[str, ...] = identity(
        help="Tasks to train and score on: names, or files (./my_task.py).", min_length=1
    )
    method_files: dict[str, str] = runtime(
        {}, help="Where the methods that are files lie, by name. Set by `methods`."
    )
    task_files: dict[str, str] = runtime(
        {}, help="Where the tasks that are files lie, by name. Set by `tasks`."
    )
    seeds: int = identity(1, help="Training seeds of every method and task: 0 … seeds-1.", ge=1)
    history: Literal["last", "full"] = identity(
        "last", help="What a game shows at each turn: the last observation, or all the turns."
    )

    context: tuple[str, ...] = identity(
        (),
        help="What teachers are told in place of the task's own context: a file (JSON as extract "
        "writes it, or plain text), or several, of which each example draws one.",
    )
    context_placement: Placement | None = identity(
        None,
        help="Where it goes: the system message, the head of the user message, or inside it after "
        "its first paragraph (None: as the JSON file says, or where the task's own context goes).",
    )

    model: str = identity("micro", help="Student: Hub id, local folder, or 'micro' (built in).")
    revision: str | None = identity(None, help="Revision of a Hub model.")
    teacher_model: str | None = identity(
        None, help="A larger teacher for methods with weights='larger': Hub id or folder."
    )
    enable_thinking: bool = later(
        False,
        help="Let models whose chat template knows it think before they answer; thinking is never "
        "graded, and lm-eval retention tasks are answered without.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = identity(
        "auto",
        help="Weights' type. auto: the student's are float32, since it is trained (bf16 = true "
        "computes in bfloat16); a larger teacher's are bfloat16 on a GPU, float32 on a CPU.",
    )
    bf16: bool = identity(False, help="bfloat16 autocast in training and scoring.")
    lora_rank: int | None = later(
        None, help="Train a low-rank adapter of this rank (peft), not all weights.", ge=1
    )
    lora_alpha: int = later(
        32, help="Scale of the adapter: its output counts lora_alpha / lora_rank.", ge=1
    )
    lora_target_modules: str = later(
        "all-linear",
        help="Layers that get an adapter: all-linear (all but the LM head), or 'q_proj,v_proj'.",
    )
    attn_implementation: Literal["auto", "sdpa", "eager", "flash_attention_2"] = later(
        "auto", help="Attention kernels, as transformers names them; auto: its own choice."
    )
    allow_pickle: bool = runtime(
        False, help="Also open weights that are pickles (*.bin): only where you trust them."
    )
    trust_remote_code: bool = runtime(
        False, help="Let a Hub model run Python code of its own; read that code first."
    )

    learning_rate: tuple[float, ...] = identity(
        (5e-6,), help="One rate, or several: the sweep, the same for every method.", min_length=1
    )
    sweep_seeds: int | None = identity(
        None,
        help="Seeds of the rates other than `headline_learning_rate` (None: all, at all rates).",
        ge=1,
    )
    headline_learning_rate: float | Literal["dev"] | None = identity(
        None,
        help="The rate that runs with all the seeds: a number, or 'dev' (the best on dev of each "
        "task and method in the sweep). None: every rate does.",
    )
    max_steps: int = identity(50, help="Optimiser steps.", ge=0)
    batch_size: int = identity(64, help="Examples an optimiser step.", ge=1)
    num_generations: int = identity(1, help="Replies an example.", ge=1)
    micro_batch_size: int = identity(
        32, help="Replies in one forward and backward pass (accumulated).", ge=1
    )
    reduction: Literal["token_mean", "sequence_mean"] = identity(
        "token_mean",
        help="Mean over the step's reply tokens, or per reply first (arXiv 2602.12275, Eq. 1).",
    )
    lr_scheduler_type: Literal["constant", "cosine"] = identity(
        "constant", help="Rate after warm-up."
    )
    warmup_steps: int = identity(0, help="Steps of linear warm-up.", ge=0)
    weight_decay: float = identity(0.01, help="AdamW weight decay.", ge=0)
    optim: Literal["adamw", "adamw_8bit"] = later(
        "adamw", help="AdamW, or bitsandbytes' with 8-bit moments: a quarter of their memory."
    )
    adam_beta1: float = identity(0.9, help="AdamW beta 1.", ge=0, lt=1)
    adam_beta2: float = identity(0.999, help="AdamW beta 2.", ge=0, lt=1)
    max_grad_norm: float = identity(1.0, help="Gradient clip, L2; 0 clips nothing.", ge=0)
    gradient_checkpointing: bool = runtime(
        False, help="Recompute activations in the backward pass to save memory."
    )

    temperature: float = identity(
        1.0, help="Of the writer, and of both readings in the loss.", ge=0.01
    )
    top_p: float = identity(1.0, help="Writer's nucleus.", gt=0, le=1)
    top_k: int = identity(0, help="Writer's top-k; 0 is off.", ge=0)
    max_completion_length: int = identity(128, help="Most tokens of one reply.", ge=1)
    max_prompt_length: int | None = identity(
        None, help="Most tokens of a prompt, told or plain (None: what the model can read)."
    )
    overlong: Literal["refuse", "skip"] = identity(
        "refuse", help="An example that is too long: stop, or skip and count. Never cut."
    )

    eval_steps: int = identity(10, help="Steps between evaluations on dev.", ge=1)
    eval_retention: bool = identity(
        True, help="Also score retention at every evaluation (the forgetting curve)."
    )
    choose: Literal["dev", "last"] | int = identity(
        "dev",
        help="The checkpoint scored on test: best on dev, the last, or a step fixed in advance.",
    )
    dev_items: int = identity(200, help="Dev examples scored at every evaluation.", ge=1)
    test_items: int = identity(500, help="Test examples scored once.", ge=1)
    eval_samples: int = identity(
        1, help="Samples an example at test and for base and ceiling.", ge=1
    )
    eval_temperature: float = identity(0.0, help="Decoding of every evaluation; 0 is greedy.", ge=0)
    eval_top_p: float = identity(1.0, help="Decoding of every evaluation.", gt=0, le=1)
    eval_top_k: int = identity(0, help="Decoding of every evaluation.", ge=0)
    retention: tuple[str, ...] = identity(
        ("ifeval_micro",), help="What must not be lost: lm-eval tasks, or this project's, by name."
    )
    retention_items: int | None = identity(None, help="Items of each retention task (None: all).")
    retention_max_completion_length: int = identity(
        160, help="Most tokens of a reply to an lm-eval retention task.", ge=1
    )
    retention_temperature: float | None = later(
        None, help="Decoding of lm-eval retention tasks (None: eval_temperature).", ge=0
    )
    retention_top_p: float | None = later(
        None, help="Decoding of lm-eval retention tasks (None: eval_top_p).", gt=0, le=1
    )
    retention_top_k: int | None = later(
        None, help="Decoding of lm-eval retention tasks (None: eval_top_k).", ge=0
    )

    rounds: int = later(
        1,
        help="Rounds of extract, deploy and consolidate: each begins from the checkpoint that the "
        "one before chose, and tells what it learnt from its own attempts.",
        ge=1,
    )
    experience: Experience | None = later(
        None,
        help="How a round makes its context, as a table: [experience] items = 30. With it one "
        "round makes its own context too; without it, several take the table's defaults.",
    )
    consolidate: Literal["environment", "replay"] = later(
        "environment",
        help="What a round trains on: train examples, or the states that its attempts visited, one "
        "reply each, without opening an episode.",
    )
    round: int = later(
        1, help="Which round this is: its epochs follow the last one's. Set by `rounds`.", ge=1
    )
    begin_weights: str | None = later(
        None, help="SHA-256 of the checkpoint's weights that a round begins from. Set by `rounds`."
    )
    begin_folder: str | None = runtime(
        None, help="The folder of these weights, in place of `model`. Set by `rounds`."
    )

    task_settings: dict[str, dict[str, Any]] = identity(
        {},
        help="Settings that a task needs otherwise than the suite, for every method alike: "
        "[task_settings.frozen_lake] batch_size = 8.",
    )

    data_dir: str | None = runtime(
        None,
        help="Folder with local data files, in place of the Hub; 'packaged': the small made-up "
        "ones that ship with the package, for smoke runs (a folder of that name: './packaged').",
    )
    output_dir: str = runtime("results", help="Folder that holds the suites' results.")
    device: str = runtime("auto", help="auto, cpu, cuda, cuda:1 …")
    engine: Literal["hf", "vllm"] = identity(
        "hf", help="Who writes replies: transformers in process, or vLLM."
    )
    vllm_url: str | None = runtime(
        None,
        help="A running vLLM server that writes (engine = 'vllm'), with the student's weights put "
        "into it after every step (None: vLLM in process).",
    )
    vllm_options: dict[str, Any] = runtime(
        {}, help="Arguments of vllm.LLM in process: {gpu_memory_utilization = 0.3}."
    )
    teacher_engine: Literal["hf", "vllm"] = later(
        "hf",
        help="Who scores replies for the teacher: hf gives its whole distribution, vllm the "
        "log-probs of a list of ids.",
    )
    teacher_url: str | None = runtime(
        None, help="A running vLLM server with the teacher's weights (teacher_engine = 'vllm')."
    )
    missing_ids: Literal["refuse", "drop", "floor"] = later(
        "refuse",
        help="Ids of a loss's support that a vLLM teacher does not list: refuse the loss, drop the "
        "ids, or take the smallest listed log-prob.",
    )
    rollout_batch_size: int = runtime(128, help="Replies written at a time.", ge=1)
    save_steps: int = runtime(
        10, help="Steps between checkpoints that a killed run resumes from.", ge=1
    )
    keep_checkpoints: Literal["chosen", "all", "none"] = runtime(
        "chosen", help="Which checkpoints a finished run keeps."
    )
    report_to: Literal["none", "tensorboard", "wandb"] = runtime(
        "none", help="A live tracker beside the files; none by default."
    )
    threads: int | None = runtime(None, help="CPU threads of a process (None: torch's choice).")
    jobs: int = runtime(1, help="Cells that run at a time, each in a process of its own.", ge=1)

    @model_validator(mode="before")
    @classmethod
    def _files(cls, values: Any) -> Any:
        """Paths among methods and tasks become names; `method_files` keeps where they lie."""
        if not isinstance(values, dict):
            return values
        by_name = words.by_name(values, "methods", "method_files")
        return words.by_name(by_name, "tasks", "task_files")

    @field_validator("methods", "tasks", mode="before")
    @classmethod
    def _plugins(cls, value: Any) -> Any:
        """Accept "a,b[k=4]" and ["a", "b[k=4]"]; refuse repeats."""
        value = words.listed(value)
        if isinstance(value, list):
            value = tuple(value)
        if isinstance(value, tuple):
            words.refuse_unusable(value)
        return value

    @field_validator("tasks", mode="after")
    @classmethod
    def _tasks_alone(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            if words.parse(word).parameters:
                raise ValueError(f"{word}: only methods take parameters; write the task's name")
        return value

    @field_validator("retention", mode="after")
    @classmethod
    def _known_retention(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            if word.endswith(".py") or word.startswith("."):
                raise ValueError(
                    f"{word}: retention tasks are given by name, those of lm-eval or those that "
                    "ship; a file can be one of the tasks only"
                )
        return value

    @field_validator("retention", "context", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """Accept "a,b" and ["a", "b"]; refuse repeats."""
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, list):
            value = tuple(value)
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise ValueError(f"a name is there twice: {', '.join(map(str, value))}")
        return value

    @field_validator("learning_rate", mode="before")
    @classmethod
    def _rates(cls, value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = (float(value),)
        if isinstance(value, (list, tuple)):
            rates = tuple(float(v) if isinstance(v, int) else v for v in value)
            if any(isinstance(v, float) and not v > 0 for v in rates):
                raise ValueError("a learning rate is above 0")
            if len(set(rates)) < len(rates):
                raise ValueError("a learning rate is there twice")
            return rates
        return value

    @field_validator(
        "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm", "temperature", "top_p",
        "eval_temperature", "eval_top_p", "headline_learning_rate", "retention_temperature",
        "retention_top_p", mode="before",
    )  # fmt: skip
    @classmethod
    def _whole_floats(cls, value: Any) -> Any:
        """TOML writes 1 where 1.0 is meant."""
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @property
    def chained(self) -> bool:
        """Whether every cell is a chain of rounds (one, perhaps) that make their own contexts."""
        return self.rounds > 1 or self.experience is not None

    def for_task(self, task: str) -> Self:
        """The suite as one of its tasks runs it: ``task_settings`` put in their places."""
        if not self.task_settings:
            return self
        return type(self).model_validate(
            {**self.model_dump(), **self.task_settings.get(task, {}), "task_settings": {}}
        )

    def evaluated_steps(self) -> tuple[int, ...]:
        """Steps after which dev is scored: 0, multiples of ``eval_steps``, and the last."""
        steps = set(range(0, self.max_steps + 1, self.eval_steps)) | {self.max_steps}
        return tuple(sorted(steps))
