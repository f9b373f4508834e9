"""The settings of a suite: each declared once, with its default, its bounds and its class."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_serializer,
    field_validator,
    model_validator,
)

from opcd_bench.config import words
from opcd_bench.config.bounds import COUNT, LENGTH, PROCESSES, RANK, REPEATS, ROUNDS
from opcd_bench.config.claims import Claim
from opcd_bench.config.cluster import ClusterOptions
from opcd_bench.config.experience import Experience, refuse_no_text
from opcd_bench.config.headline_rule import Rule
from opcd_bench.config.urls import ServerUrl
from opcd_bench.envs.task import Placement
from opcd_bench.printable import hidden, url_without_secrets
from opcd_bench.store.names import checked_name


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


def rounding(default: Any, *, help: str, **limits: Any) -> Any:
    """A runtime field by which numbers are summed in another order: it moves their last digits.

    What a cell ran with is stored beside it, and what it was resumed with.
    """
    return Field(
        default,
        description=help,
        json_schema_extra={"class": "runtime", "rounding": True},
        **limits,
    )


def _as_float(value: Any) -> Any:
    """A whole number as a float; ValueError for one that no float is as large as."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    try:
        return float(value)
    except OverflowError:
        raise ValueError("must be a finite number; this one is too large") from None


GRID_FIELDS = (
    "adapted_learning_rate",
    "claims",
    "context",
    "context_placement",
    "equivalence_margin",
    "first_seed",
    "headline_learning_rate",
    "headline_rule",
    "learning_rate",
    "methods",
    "rounds",
    "seeds",
    "sweep_seeds",
    "task_settings",
    "tasks",
)
"""What a grid is made of and judged by: none of it enters the identity of a cell as it stands.

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

    name: str = runtime("custom", help="Name of the suite, and of its folder below the results.")
    summary: str = runtime("", help="One line on what the suite is for.")

    methods: tuple[str, ...] = identity(
        help="Methods to compare, by name (opcd-bench methods lists them), with parameters "
        "(opcd[k=4]), or as files (./my_method.py).",
        min_length=1,
    )
    tasks: tuple[str, ...] = identity(
        help="Tasks to train and score on, by name (opcd-bench tasks lists them), or as files "
        "(./my_task.py).",
        min_length=1,
    )
    method_files: dict[str, str] = runtime(
        {}, help="Paths of the methods that are files, by name. Set by `methods`."
    )
    task_files: dict[str, str] = runtime(
        {}, help="Paths of the tasks that are files, by name. Set by `tasks`."
    )
    seeds: int = identity(
        1,
        help="Number of training seeds for every method and task: first_seed, first_seed + 1, …",
        ge=1,
        le=REPEATS,
    )
    first_seed: int = later(
        0,
        help="The first training seed. A pilot, which fixes learning rates and steps and is not "
        "reported, takes seeds that the comparison does not (1000).",
        ge=0,
        le=COUNT,
    )
    history: Literal["last", "full"] = identity(
        "last",
        help="What a game shows at each turn: the last observation (last), or all turns so far "
        "(full).",
    )

    context: tuple[str, ...] = identity(
        (),
        help="Context that teachers read in place of the task's own: a file (JSON as `opcd-bench "
        "extract` makes it, or plain text), or several files, of which each example draws one.",
    )
    context_placement: Placement | None = identity(
        None,
        help="Where the context goes: the system message, the start of the user message, or inside "
        "the user message after its first paragraph (None: where the JSON file says, or where "
        "the task's own context goes).",
    )

    model: str = identity(
        "micro-small",
        help="Student: Hub id, local folder, or 'micro-small' (built in).",
        min_length=1,
    )
    revision: str | None = identity(None, help="Revision of a Hub model.", min_length=1)
    model_dir: str | None = runtime(
        None,
        help="Folder with local models, in place of the Hub: FOLDER/OWNER/NAME is the Hub's "
        "OWNER/NAME. None: the environment variable OPCD_BENCH_MODEL_DIR if it is set.",
        min_length=1,
    )
    model_weights: str | None = later(
        None,
        help="SHA-256 of the weights of `model`, where they are built in or `model_dir` has them. "
        "Set when a run is asked for.",
    )
    teacher_weights: str | None = later(
        None,
        help="The same of `teacher_model`.",
    )
    teacher_model: str | None = identity(
        None,
        help="A larger teacher, for methods with weights='larger': Hub id or local folder.",
        min_length=1,
    )
    enable_thinking: bool = later(
        False,
        help="Let the model think before it answers, if its chat template can ask for it. Thinking "
        "is never graded; lm-eval retention tasks are answered without it.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = identity(
        "auto",
        help="Data type of the weights. auto: float32 for the student, because it is trained; for "
        "a larger teacher bfloat16 on a GPU and float32 on a CPU. With bf16 = true both compute in "
        "bfloat16.",
    )
    bf16: bool = identity(
        False,
        help="Compute in bfloat16: sampling, scoring, training and evaluation. The optimiser keeps "
        "float32 weights behind it, unless dtype = bfloat16.",
    )
    lora_rank: int | None = later(
        None,
        help="Train a low-rank adapter of this rank (peft) instead of all weights.",
        ge=1,
        le=RANK,
    )
    lora_alpha: int = later(
        32,
        help="Scale of the adapter: its output is multiplied by lora_alpha / lora_rank.",
        ge=1,
        le=COUNT,
    )
    lora_target_modules: str = later(
        "all-linear",
        help="Layers that get an adapter: all-linear (all but the LM head), or 'q_proj,v_proj'.",
        min_length=1,
    )
    attn_implementation: Literal["auto", "sdpa", "eager", "flash_attention_2"] = later(
        "auto",
        help="Attention implementation, as transformers names it; auto: transformers chooses.",
    )
    allow_pickle: bool = runtime(
        False,
        help="Also load weights that are stored as pickles (*.bin). A pickle can run code: only "
        "for files that you trust.",
    )
    trust_remote_code: bool = runtime(
        False, help="Let a model from the Hub run its own Python code; read that code first."
    )

    learning_rate: tuple[float, ...] = identity(
        (5e-6,),
        help="One learning rate, or several: a sweep, the same for every method.",
        min_length=1,
    )
    adapted_learning_rate: float | None = later(
        None,
        help="Learning rate at which teachers are adapted that a method adapts (None: the number "
        "of `headline_learning_rate`, or else the first of `learning_rate`).",
        gt=0,
    )
    sweep_seeds: int | None = identity(
        None,
        help="Number of seeds for learning rates other than `headline_learning_rate` (None: every "
        "learning rate runs with all seeds).",
        ge=1,
        le=REPEATS,
    )
    headline_learning_rate: float | Literal["dev"] | None = identity(
        None,
        help="Learning rate that runs with all seeds: a number, or 'dev' (for each task and "
        "method, the one that `headline_rule` chooses on dev). None: every learning rate does.",
    )
    headline_rule: Rule = later(
        "one_standard_error",
        help="Rule by which a method's learning rate is chosen on dev: the smallest within one "
        "standard error of the best (one_standard_error), or the best. Fixed before the runs: a "
        "folder with finished runs of a sweep keeps its rule.",
    )
    equivalence_margin: float = later(
        0.05,
        help="Two methods whose difference is shown to be smaller than this count as alike: a "
        "share (0.05: 5 points), of accuracy or of the gap. Fixed before the runs.",
        gt=0,
        lt=1,
    )
    claims: tuple[Claim, ...] = later(
        (),
        help="What the suite is to decide, as tables: [[claims]] text, first and second (METHOD on "
        "TASK), measure, direction, threshold. Fixed before the runs; the report tests each.",
    )
    max_steps: int = identity(50, help="Optimiser steps.", ge=0, le=COUNT)
    batch_size: int = identity(64, help="Examples per optimiser step.", ge=1, le=COUNT)
    num_generations: int = identity(1, help="Responses per example.", ge=1, le=COUNT)
    micro_batch_size: int = identity(
        32,
        help="Responses per forward and backward pass; gradients are accumulated over the step.",
        ge=1,
        le=COUNT,
    )
    micro_batch_tokens: int | None = later(
        None,
        help="Instead of micro_batch_size: at most so many tokens, of prompts without context and "
        "responses, per forward and backward pass (a longer one has a pass of its own).",
        ge=1,
        le=COUNT,
    )
    reduction: Literal["token_mean", "sequence_mean"] = identity(
        "token_mean",
        help="How the loss is averaged: over all response tokens of the step, or first within each "
        "response (arXiv 2602.12275, Eq. 1).",
    )
    lr_scheduler_type: Literal["constant", "cosine"] = identity(
        "constant", help="Schedule of the learning rate after warm-up."
    )
    warmup_steps: int = identity(
        0, help="Steps of linear warm-up of the learning rate.", ge=0, le=COUNT
    )
    weight_decay: float = identity(0.01, help="AdamW weight decay.", ge=0)
    optim: Literal["adamw", "adamw_8bit"] = later(
        "adamw",
        help="AdamW, or the AdamW of bitsandbytes with 8-bit moments, which take a quarter of the "
        "memory.",
    )
    adam_beta1: float = identity(0.9, help="AdamW beta 1.", ge=0, lt=1)
    adam_beta2: float = identity(0.999, help="AdamW beta 2.", ge=0, lt=1)
    max_grad_norm: float = identity(
        1.0, help="Gradients with a larger L2 norm are clipped to it; 0: no clipping.", ge=0
    )
    gradient_checkpointing: bool = rounding(
        False, help="Recompute activations in the backward pass to save memory."
    )

    temperature: float = identity(
        1.0,
        help="Sampling temperature of the rollout policy. The loss compares student and teacher at "
        "the same temperature, and the likelihood of SFT is at it too.",
        ge=0.01,
    )
    top_p: float = identity(
        1.0, help="Nucleus sampling of the rollout policy; 1 is off.", gt=0, le=1
    )
    top_k: int = identity(0, help="Top-k sampling of the rollout policy; 0 is off.", ge=0, le=COUNT)
    max_completion_length: int = identity(128, help="Maximum tokens per response.", ge=1, le=LENGTH)
    max_prompt_length: int | None = identity(
        None,
        help="Maximum tokens per prompt, with or without context (None: what the model can read).",
        ge=1,
        le=LENGTH,
    )
    overlong: Literal["refuse", "skip"] = identity(
        "refuse",
        help="What happens to a prompt that is too long: stop with an error (refuse), or leave the "
        "example out and count it (skip). Prompts are never cut. A game whose later prompt is too "
        "long is lost as truncated.",
    )

    eval_steps: int = identity(10, help="Steps between evaluations on dev.", ge=1, le=COUNT)
    eval_retention: bool = identity(
        True, help="Also score retention at every evaluation (for the forgetting curve)."
    )
    choose: Literal["dev", "last"] | int = identity(
        "dev",
        help="Checkpoint that is scored on test: the best on dev, the last, or a step fixed in "
        "advance.",
    )
    dev_items: int = identity(200, help="Dev examples scored at every evaluation.", ge=1, le=COUNT)
    test_items: int = identity(500, help="Test examples, scored once.", ge=1, le=COUNT)
    probe_items: int | None = later(
        None,
        help="Examples of each further test set that a task has, scored once as test is (None: "
        "all).",
        ge=1,
        le=COUNT,
    )
    train_items: int = later(
        0,
        help="Train prompts, the first of the split, that are scored beside test as a further test "
        "set (`training_prompts`): what was learned by heart shows there alone. 0: none.",
        ge=0,
        le=COUNT,
    )
    eval_samples: int = identity(
        1, help="Responses sampled per example on test, and for base and ceiling.", ge=1, le=REPEATS
    )
    eval_temperature: float = identity(
        0.0, help="Sampling temperature of every evaluation; 0 is greedy.", ge=0
    )
    eval_top_p: float = identity(
        1.0, help="Nucleus sampling in every evaluation; 1 is off.", gt=0, le=1
    )
    eval_top_k: int = identity(
        0, help="Top-k sampling in every evaluation; 0 is off.", ge=0, le=COUNT
    )
    retention: tuple[str, ...] = identity(
        ("ifeval_micro",),
        help="Tasks that show what is forgotten, by name: lm-eval tasks or this project's. They "
        "are never trained on. Also drift (KL from the base model on its own responses to them), "
        "loss_gsm8k and loss_wikitext (loss on texts).",
    )
    retention_items: int | None = identity(
        None, help="Items per retention task (None: all).", ge=1, le=COUNT
    )
    retention_max_completion_length: int = identity(
        160, help="Maximum tokens per response to an lm-eval retention task.", ge=1, le=LENGTH
    )
    retention_temperature: float | None = later(
        None, help="Sampling temperature of lm-eval retention tasks (None: eval_temperature).", ge=0
    )
    retention_top_p: float | None = later(
        None, help="Nucleus sampling in lm-eval retention tasks (None: eval_top_p).", gt=0, le=1
    )
    retention_top_k: int | None = later(
        None, help="Top-k sampling in lm-eval retention tasks (None: eval_top_k).", ge=0, le=COUNT
    )

    rounds: int = later(
        1,
        help="Number of rounds. A round starts from the checkpoint that the round before chose, "
        "makes a context from its own attempts, and trains on it.",
        ge=1,
        le=ROUNDS,
    )
    experience: Experience | None = later(
        None,
        help="How a round makes its context, as a table: [experience] items = 30. With this table "
        "a single round makes its own context too; without it, several rounds use the table's "
        "defaults.",
    )
    consolidate: Literal["environment", "replay"] = later(
        "environment",
        help="What a round trains on: the train examples (environment), or the states that its own "
        "attempts visited (replay), with one response per state and no new episodes.",
    )
    round: int = later(
        1,
        help="Number of this round; its epochs follow those of the round before. Set by `rounds`.",
        ge=1,
        le=ROUNDS,
    )
    begin_weights: str | None = later(
        None, help="SHA-256 of the weights that a round starts from. Set by `rounds`."
    )
    begin_folder: str | None = runtime(
        None, help="Folder with those weights, used in place of `model`. Set by `rounds`."
    )

    task_settings: dict[str, dict[str, Any]] = identity(
        {},
        help="Settings of one task that differ from the suite's, the same for every method: "
        "[task_settings.frozen_lake] batch_size = 8.",
    )

    data_dir: str | None = runtime(
        None,
        help="Folder with local data files, in place of the Hub; 'packaged': small made-up data "
        "that ship with the package, for smoke runs (a folder of that name: './packaged').",
        min_length=1,
    )
    output_dir: str = runtime("results", help="Folder for the results of all suites.", min_length=1)
    device: str = runtime(
        "auto", help="Device: auto, cpu, cuda, cuda:1 …", pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$"
    )
    engine: Literal["hf", "vllm"] = identity(
        "hf", help="What generates responses: transformers in this process (hf), or vLLM (vllm)."
    )
    vllm_url: ServerUrl = runtime(
        None,
        help="URL of a running vLLM server that generates responses (engine = 'vllm'). The "
        "student's weights are copied into it after every step. None: vLLM runs in this "
        "process.",
    )
    vllm_options: dict[str, Any] = rounding(
        {},
        help="Arguments of vllm.LLM where vLLM runs in this process: {gpu_memory_utilization = "
        "0.3}.",
    )
    teacher_engine: Literal["hf", "vllm"] = later(
        "hf",
        help="What computes the teacher's log-probabilities: hf gives the whole distribution, vllm "
        "only those of a list of token ids.",
    )
    teacher_url: ServerUrl = runtime(
        None,
        help="URL of a running vLLM server with the teacher's weights (teacher_engine = 'vllm').",
    )
    missing_ids: Literal["refuse", "drop", "floor"] = later(
        "refuse",
        help="What happens to token ids that a loss needs and a vLLM teacher does not list: refuse "
        "the loss, drop the ids, or use the smallest log-probability of its k likeliest (floor).",
    )
    rollout_batch_size: int = rounding(128, help="Responses generated at a time.", ge=1, le=COUNT)
    save_steps: int = runtime(
        10,
        help="Steps between checkpoints; an interrupted run resumes from the last one.",
        ge=1,
        le=COUNT,
    )
    keep_checkpoints: Literal["chosen", "all", "none"] = runtime(
        "chosen", help="Which checkpoints a finished run keeps."
    )
    entrants: dict[str, str] = runtime(
        {},
        help="Models trained elsewhere, by a name of yours: folders or Hub ids. They are scored on "
        "the same tasks and retention tasks, and stand in the tables, set apart.",
    )
    interpolate: tuple[float, ...] = runtime(
        (),
        help="Shares of the way from the base model to a trained one (0.25,0.5,0.75): the weights "
        "between them are scored for every finished run, without training.",
    )
    report_to: Literal["none", "tensorboard", "wandb"] = runtime(
        "none", help="Live tracker beside the stored files."
    )
    threads: int | None = rounding(
        None, help="CPU threads per process (None: torch's choice).", ge=1, le=PROCESSES
    )
    processes: int = later(
        1,
        help="Processes that compute a cell together, each on a GPU of its own: weights, gradients "
        "and moments are divided among them (torchrun, FSDP2), and so are the responses. Sums are "
        "rounded otherwise, so it is part of what a run is.",
        ge=1,
        le=PROCESSES,
    )
    jobs: int = runtime(
        1,
        help="Cells that run at the same time on this machine, each in a process of its own.",
        ge=1,
        le=PROCESSES,
    )
    cluster: Literal["local", "slurm", "ray"] = runtime(
        "local",
        help="Where cells run: on this machine (local), as jobs of SLURM, or as tasks of Ray.",
    )
    cluster_options: ClusterOptions = runtime(
        ClusterOptions(),
        help="What a job of the cluster asks for, as a table: [cluster_options] partition = "
        '"gpu", gpus = 1.',
    )

    @field_validator("*", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        refuse_no_text(value)
        return value

    @field_validator("name")
    @classmethod
    def _folder(cls, value: str) -> str:
        return checked_name(value)

    @field_serializer("vllm_url", "teacher_url", when_used="json")
    def _without_credentials(self, value: str | None) -> str | None:
        """What is stored and printed; in Python the URL stays whole, for who calls the server."""
        return None if value is None else url_without_secrets(value)

    @field_serializer("vllm_options", when_used="json")
    def _without_tokens(self, value: dict[str, Any]) -> dict[str, Any]:
        return dict(hidden(value))

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
            if word.endswith((".py", ".yaml", ".yml")) or "/" in word or word.startswith("."):
                raise ValueError(
                    f"{word}: retention tasks are given by name, those of lm-eval or those that "
                    "ship; a Python file can be one of the tasks only. An lm-eval task in a YAML "
                    "file of your own is scored by lm_eval itself, on a checkpoint that the run "
                    "keeps (lm_eval --include_path FOLDER --tasks NAME --model_args "
                    "pretrained=RUN/checkpoints/step_N/model), and opcd-bench import-lm-eval "
                    "takes its result into the report"
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
            raise ValueError(f"a name is given twice: {', '.join(map(str, value))}")
        if isinstance(value, tuple) and "" in value:
            raise ValueError("a name is empty; leave it out, or write [] for none")
        return value

    @field_validator("claims", mode="before")
    @classmethod
    def _claims(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("interpolate", mode="before")
    @classmethod
    def _shares(cls, value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = (value,)
        return tuple(_as_float(v) for v in value) if isinstance(value, (list, tuple)) else value

    @field_validator("learning_rate", mode="before")
    @classmethod
    def _rates(cls, value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = (value,)
        if isinstance(value, (list, tuple)):
            rates = tuple(_as_float(v) for v in value)
            if any(isinstance(v, float) and not v > 0 for v in rates):
                raise ValueError("a learning rate must be above 0")
            if len(set(rates)) < len(rates):
                raise ValueError("a learning rate is given twice")
            return rates
        return value

    @field_validator(
        "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm", "temperature", "top_p",
        "eval_temperature", "eval_top_p", "headline_learning_rate", "retention_temperature",
        "retention_top_p", "adapted_learning_rate", mode="before",
    )  # fmt: skip
    @classmethod
    def _whole_floats(cls, value: Any) -> Any:
        """TOML writes 1 where 1.0 is meant."""
        return _as_float(value)

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
