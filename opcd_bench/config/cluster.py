"""What a cluster's jobs ask for: the [cluster_options] of a suite, each declared once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_serializer, model_validator

from opcd_bench.config.bounds import COUNT, PROCESSES
from opcd_bench.config.experience import Declared
from opcd_bench.printable import hidden

PASSED_ON = "slurm_"
"""Options that begin so go to submitit as they are: ``slurm_constraint``, ``slurm_reservation``."""


class ClusterOptions(Declared):
    """What one job asks for, and how jobs are watched. They change no number."""

    workers: int | None = Field(
        default=None,
        description="Jobs at a time at most (none: all that the cluster takes).",
        ge=1,
        le=COUNT,
    )
    cpus: int = Field(
        default=2,
        description="CPU cores of a job, and its threads.",
        ge=1,
        le=PROCESSES,
    )
    gpus: int = Field(default=0, description="GPUs of a job; it sees no others.", ge=0, le=64)
    memory_gb: float | None = Field(
        default=None,
        description="Memory of a job in GB (none: the cluster's default).",
        gt=0,
        le=100_000,
    )
    minutes: int = Field(
        default=240,
        description="SLURM: time limit of a job; what is not done by then is requeued and "
        "goes on from its checkpoint.",
        ge=1,
        le=525_600,
    )
    partition: str | None = Field(default=None, description="SLURM: partition.")
    account: str | None = Field(default=None, description="SLURM: account.")
    qos: str | None = Field(default=None, description="SLURM: quality of service.")
    setup: str | None = Field(
        default=None, description="SLURM: shell line before the job, such as module load cuda."
    )
    requeues: int = Field(
        default=20,
        description="SLURM: how often a job that ran into its time limit is requeued.",
        ge=0,
        le=COUNT,
    )
    submit: Literal["slurm", "local", "debug"] = Field(
        default="slurm",
        description="SLURM: local and debug run submitit's jobs on this machine, as "
        "processes or one after the other, so that everything can be tried without a cluster.",
    )
    address: str | None = Field(
        default=None,
        description="Ray: HOST:PORT of the cluster, or local for one of this machine's own; "
        "none: the one that this machine belongs to.",
    )
    retries: int = Field(
        default=3,
        description="How often a job whose worker was lost is given out again.",
        ge=0,
        le=COUNT,
    )
    poll_seconds: float = Field(
        default=30.0,
        description="How often the cluster is asked what became of the jobs.",
        gt=0,
        le=86_400,
    )
    more: dict[str, str | int | float | bool] = Field(
        default={}, description="SLURM: options that begin with slurm_, passed on to submitit."
    )

    @field_serializer("setup", "more", when_used="json")
    def _without_credentials(self, value: Any) -> Any:
        """What is stored and printed: a shell line may export a token, an option may have one."""
        return hidden(value, secret=True)

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        rest = {key: value for key, value in values.items() if not key.startswith(PASSED_ON)}
        passed = {k.removeprefix(PASSED_ON): v for k, v in values.items() if k not in rest}
        return {**rest, **({"more": {**dict(rest.get("more", {})), **passed}} if passed else {})}


OWN = {
    "slurm": frozenset(
        ("minutes", "partition", "account", "qos", "setup", "requeues", "submit", "more")
    ),
    "ray": frozenset(("address",)),
}
"""What one kind of cluster alone reads."""


def refuse_unfit(kind: str, options: ClusterOptions) -> None:
    """Raise ValueError for options that the kind of cluster does not read."""
    default = ClusterOptions()
    given = {
        name
        for name in ClusterOptions.model_fields
        if getattr(options, name) != getattr(default, name)
    }
    if kind == "local" and given:
        raise ValueError(
            f"cluster_options.{min(given)} is given without a cluster; add cluster = 'slurm' or "
            "'ray' (--cluster slurm). Cells at the same time on this machine: --jobs N"
        )
    for other, names in OWN.items():
        if kind != other and (wrong := names & given):
            raise ValueError(
                f"cluster_options.{min(wrong)} is an option of {other}, and cluster is {kind!r}; "
                "leave it out"
            )
