"""Settings of a suite that do not go together: refused as it is read, or warned of as it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from opcd_bench.config import bounds, cluster, measures, validated
from opcd_bench.config.fields import Settings

TASK_FIELDS = (
    "batch_size",
    "context",
    "context_placement",
    "dev_items",
    "eval_steps",
    "max_completion_length",
    "max_steps",
    "micro_batch_size",
    "micro_batch_tokens",
    "num_generations",
    "probe_items",
    "test_items",
    "train_items",
)
"""What a task may set otherwise than its suite."""

VLLM_RESERVED = (
    "dtype", "generation_config", "hf_overrides", "load_format", "logprobs_mode", "model",
    "quantization", "revision", "seed", "tokenizer", "tokenizer_revision",
)  # fmt: skip
"""Arguments of vllm.LLM that change numbers: none of them is an option."""

BFLOAT16_STAYS = 2**-9
"""A change of less than this share of a bfloat16 number always rounds away (8 significant bits)."""

TYPICAL_WEIGHT = 0.02
"""The spread that most decoders' weights begin with (transformers' ``initializer_range``)."""


def refuse_inconsistent(suite: Settings) -> None:
    """Raise ValueError for the first two settings that contradict each other."""
    cells = len(suite.methods) * len(suite.tasks) * len(suite.learning_rate) * suite.seeds
    if cells > bounds.CELLS:
        raise ValueError(
            f"methods x tasks x learning rates x seeds are {cells:,} runs; the most is "
            f"{bounds.CELLS:,}. Lower seeds = {suite.seeds}"
        )
    _refuse_task_settings(suite)
    _refuse_choice(suite)
    _refuse_rounds(suite)
    _refuse_entrants(suite)
    for name in suite.retention:
        trained = measures.HELD_OUT.get(name, name)
        if trained in suite.tasks:
            loss = f" ({name} is the loss on its test split)" if name != trained else ""
            raise ValueError(
                f"{trained} cannot be trained on and be a retention task of the same suite{loss}: "
                "its test split would be scored before the checkpoint is chosen. Remove "
                f"{trained} from tasks or {name} from retention"
            )
    if measures.DRIFT in suite.retention and all(map(measures.is_measure, suite.retention)):
        raise ValueError(
            f"retention: {measures.DRIFT} is measured on the base model's responses to the other "
            "retention tasks, and there is none; add one that asks for responses: "
            f"retention = ['ifeval_micro', '{measures.DRIFT}']"
        )
    for field in ("lora_alpha", "lora_target_modules"):
        default = type(suite).model_fields[field].default
        if suite.lora_rank is None and suite.model_dump()[field] != default:
            raise ValueError(f"{field} has no effect without lora_rank; add lora_rank = 16")
    if suite.warmup_steps > suite.max_steps:
        raise ValueError(
            f"warmup_steps = {suite.warmup_steps} exceeds max_steps = {suite.max_steps}"
        )
    if (suite.headline_learning_rate is None) != (suite.sweep_seeds is None):
        raise ValueError("give headline_learning_rate and sweep_seeds together, or neither of them")
    _refuse_vllm(suite)
    _refuse_cluster(suite)
    _refuse_processes(suite)
    if (
        isinstance(suite.headline_learning_rate, float)
        and suite.headline_learning_rate not in suite.learning_rate
    ):
        raise ValueError(
            f"headline_learning_rate = {suite.headline_learning_rate} is not among "
            f"learning_rate = {list(suite.learning_rate)}"
        )
    if suite.sweep_seeds is not None and suite.sweep_seeds > suite.seeds:
        raise ValueError(f"sweep_seeds = {suite.sweep_seeds} exceeds seeds = {suite.seeds}")


def refuse_foreign_task_settings(
    settings: Mapping[str, Mapping[str, Any]], tasks: Sequence[str]
) -> None:
    """Raise ValueError for the first task that is not a suite's, or that sets what none can."""
    for task, own in settings.items():
        if task not in tasks:
            raise ValueError(f"{task}: the suite has no such task; it has {', '.join(tasks)}")
        foreign = sorted(set(own) - set(TASK_FIELDS))
        if foreign:
            raise ValueError(
                f"{task}.{foreign[0]}: a task cannot set this; it can set {', '.join(TASK_FIELDS)}"
            )


def _refuse_task_settings(suite: Settings) -> None:
    for task in suite.task_settings:
        try:
            suite.for_task(task)
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join(map(str, problem["loc"]))
            told = validated.says(problem, key, type(suite))
            where = ".".join(filter(None, ["task_settings", task, key]))
            raise ValueError(f"{where}: {told}") from None


def _refuse_entrants(suite: Settings) -> None:
    for name in suite.entrants:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name) or name in suite.methods:
            raise ValueError(
                f"entrants: {name!r} is no name for an entrant: use letters, digits, '_', '.' and "
                "'-', and no method's name"
            )
    for share in suite.interpolate:
        if not 0.0 < share < 1.0:
            raise ValueError(
                f"interpolate: {share:g} is no share between the base (0) and the trained model "
                "(1), which are scored anyway; write for example interpolate = [0.25, 0.5, 0.75]"
            )
    if len(set(suite.interpolate)) < len(suite.interpolate):
        raise ValueError(f"interpolate: {list(suite.interpolate)} has a share twice")
    if suite.interpolate and suite.keep_checkpoints == "none":
        raise ValueError(
            "interpolate reads the checkpoints of finished runs, and keep_checkpoints = 'none' "
            "removes them; set keep_checkpoints = 'chosen'"
        )
    if suite.entrants and suite.engine == "vllm":
        raise ValueError("entrants are answered by transformers; set engine = 'hf'")
    if suite.interpolate and suite.engine == "vllm" and computes_in_bfloat16(suite):
        raise ValueError(
            "interpolate: a vLLM that computes in bfloat16 rounds most of what lies between the "
            "base and a trained model to one of the two; set engine = 'hf', which computes it in "
            "float32"
        )
    if (suite.entrants or suite.interpolate) and suite.chained:
        raise ValueError(
            "entrants and interpolate are for suites of one round; leave them out, or set "
            "rounds = 1"
        )


def _refuse_choice(suite: Settings) -> None:
    if isinstance(suite.choose, int) and not isinstance(suite.choose, bool):
        if not 0 <= suite.choose <= suite.max_steps:
            raise ValueError(
                f"choose = {suite.choose} is outside 0 … max_steps = {suite.max_steps}"
            )
        if suite.choose not in suite.evaluated_steps():
            raise ValueError(
                f"choose = {suite.choose} is not an evaluated step; those are the multiples of "
                f"eval_steps = {suite.eval_steps}, and the last step, {suite.max_steps}"
            )


def _refuse_rounds(suite: Settings) -> None:
    if (suite.begin_weights is None) != (suite.begin_folder is None):
        raise ValueError("give begin_weights and begin_folder together, or neither of them")
    if suite.consolidate == "replay" and not suite.chained:
        raise ValueError(
            "consolidate = 'replay' trains on the states that a round's attempts visited, and "
            "without rounds there are none; add rounds = 2, or an [experience] table for one "
            "round"
        )
    if suite.chained:
        _refuse_in_chains(suite)


def _refuse_in_chains(suite: Settings) -> None:
    if suite.context:
        raise ValueError(
            "context: a round makes its context from the student's own attempts; leave context "
            "out (--context none), or leave out rounds and [experience]"
        )
    if suite.headline_learning_rate == "dev":
        raise ValueError(
            "headline_learning_rate = 'dev' cannot be used with rounds: every learning rate is a "
            "chain of its own; give a number, or leave out both it and sweep_seeds"
        )
    if suite.claims:
        raise ValueError(
            "claims are tested on runs of one round, and no rounds decide them; leave claims out "
            "(--set 'claims=[]'), or leave out rounds and [experience]"
        )
    if suite.rounds > 1 and suite.keep_checkpoints == "none":
        raise ValueError(
            "keep_checkpoints = 'none' leaves the next round nothing to start from; use 'chosen' "
            "(--set keep_checkpoints=chosen)"
        )


def _refuse_vllm(suite: Settings) -> None:
    for key, engine in (("vllm_url", "engine"), ("teacher_url", "teacher_engine")):
        if getattr(suite, key) is not None and getattr(suite, engine) != "vllm":
            raise ValueError(f"{key} is given without vLLM; add {engine} = 'vllm'")
    teaching = suite.teacher_engine == "vllm" and suite.teacher_url is None
    here = suite.jobs > 1 and suite.cluster == "local"
    if here and (suite.engine == "vllm" or teaching):
        raise ValueError(
            f"with jobs = {suite.jobs}, several processes would share one vLLM, its weights and "
            "its memory; set jobs = 1, or the engine = 'hf'"
        )
    if reserved := sorted(set(suite.vllm_options) & set(VLLM_RESERVED)):
        raise ValueError(
            f"vllm_options.{reserved[0]}: results depend on it, so only the suite's own settings "
            f"decide it. Not allowed in vllm_options: {', '.join(VLLM_RESERVED)}"
        )


def _refuse_cluster(suite: Settings) -> None:
    cluster.refuse_unfit(suite.cluster, suite.cluster_options)
    served = suite.vllm_url is not None and suite.cluster != "local"
    if served and suite.cluster_options.workers != 1:
        raise ValueError(
            "with vllm_url, all jobs of a cluster would push their weights into one server; leave "
            "vllm_url out (each job starts its own vLLM), or give cluster_options = {workers = 1}"
        )


def _refuse_processes(suite: Settings) -> None:
    """What several processes a cell cannot do."""
    if suite.processes == 1:
        return
    now = f"processes = {suite.processes}"
    if suite.jobs > 1:
        raise ValueError(
            f"{now} and jobs = {suite.jobs}: a cell that has several processes has the machine for "
            "itself; use --jobs 1, or --processes 1 to run as many cells at a time"
        )
    for setting, value, why in (
        ("engine", "vllm", "a vLLM would need the weights that are divided among them"),
        ("teacher_engine", "vllm", "every process reads the teacher itself"),
        ("optim", "adamw_8bit", "moments of 8 bits cannot be divided among them"),
    ):
        if getattr(suite, setting) == value:
            default = type(suite).model_fields[setting].default
            raise ValueError(
                f"{now} with {setting} = {value!r} is not built: {why}. Set {setting} = "
                f"{default!r}, or processes = 1"
            )
    if ":" in suite.device:
        raise ValueError(
            f"{now} take a GPU each, and device = {suite.device!r} names one; set device = 'cuda'"
        )


def computes_in_bfloat16(suite: Settings) -> bool:
    """Whether a suite's student has bfloat16 weights where it is sampled from and scored."""
    return bool(suite.bf16) or suite.dtype == "bfloat16"


def interpolation_warning(suite: Settings) -> str | None:
    """That what lies between base and trained models is computed otherwise than they; or None."""
    if not (suite.interpolate and computes_in_bfloat16(suite)):
        return None
    return (
        "interpolate: bfloat16 weights cannot hold a share of a small update, so interpolations "
        "are computed in float32, and the base and trained models in bfloat16: between them, "
        "differences of the size of rounding say nothing"
    )


def rounding_warning(suite: Settings) -> str | None:
    """What bfloat16 weights round away: steps too small for them, or an adapter in vLLM; or None.

    An AdamW step moves a weight by about the learning rate.
    """
    if suite.lora_rank is not None:
        return _merged_in_vllm(suite)
    rate = min(suite.learning_rate)
    largest = rate / BFLOAT16_STAYS
    if suite.dtype != "bfloat16" or largest >= TYPICAL_WEIGHT:
        return None
    return (
        f"dtype = 'bfloat16' keeps 8 significant bits of a weight, so steps of learning_rate = "
        f"{rate:g} round away on every weight above {largest:.2g}; weights begin at about "
        f"{TYPICAL_WEIGHT}. For float32 weights computed in bfloat16: --set dtype=auto --set "
        "bf16=true; or train an adapter, which is float32: --set lora_rank=16"
    )


def _merged_in_vllm(suite: Settings) -> str | None:
    """That vLLM samples with an adapter merged into bfloat16 weights, the loss with it beside."""
    if suite.engine != "vllm" or not computes_in_bfloat16(suite):
        return None
    mend = "--engine hf, or a float32 base: --set dtype=float32 --set bf16=false"
    where = "vLLM merges the adapter into bfloat16 weights"
    if suite.vllm_url is not None:
        where = "a server at vllm_url with bfloat16 weights has the adapter merged into them"
        mend = f"vllm serve with --dtype float32; or {mend}"
    return (
        f"{where}, which rounds most of a small update away, while the loss reads the adapter in "
        "float32: at learning rate 5e-5 the sampler lacks 93 % of the first step's change, 43 % "
        f"after 10 steps and 9 % after 50. To sample from what is trained: {mend}"
    )
