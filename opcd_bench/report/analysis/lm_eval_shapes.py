"""The shapes of what lm_eval writes: any other is one message that names its file and key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from opcd_bench.errors import DataError

HOW = (
    "Give results_*.json, and samples_*.jsonl for intervals, of: "
    "lm_eval run … --output_path FOLDER --log_samples"
)


def _said(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a surrogate pair") from None
    return value


Text = Annotated[str, AfterValidator(_said)]


class _Shape(BaseModel):
    """A part of a file; what is not named here may be anything."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")


class _Count(_Shape):
    original: Annotated[int, Field(ge=1)] | None = None
    effective: Annotated[int, Field(ge=1)] | None = None


class _Metric(_Shape):
    metric: Text
    aggregation: Any = None


class _Config(_Shape):
    metric_list: list[_Metric] = Field(default_factory=list)


class _Results(_Shape):
    """``results_*.json``."""

    results: dict[Text, dict[str, Any]]
    configs: dict[str, _Config]
    counts: dict[str, _Count] = Field(alias="n-samples")
    lm_eval_version: Text
    model_name: Text
    model_source: str | None = None
    task_hashes: dict[str, Text] = Field(default_factory=dict)
    versions: dict[str, int | float | str | None] = Field(default_factory=dict)
    shots: dict[str, int | None] = Field(default_factory=dict, alias="n-shot")
    higher_is_better: dict[str, dict[str, bool | None]] = Field(default_factory=dict)


class _Sample(_Shape):
    """A line of ``samples_*.jsonl``."""

    doc_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    prompt_hash: Text
    target_hash: Text
    filter: Text
    metrics: list[Text]
    doc: dict[str, Any]


class _Instructions(_Shape):
    """What a sample of a task like IFEval has besides."""

    instruction_id_list: list[Text]
    followed: list[bool]


def assert_results(path: Path, content: Mapping[str, Any]) -> None:
    """Raise DataError where a results file is of another shape, or an error below 0."""
    _assert(_Results, content, str(path))
    for task, scores in content["results"].items():
        for key, value in scores.items():
            if key.partition(",")[0].endswith("_stderr") and _negative(value):
                raise DataError(f"{path}: results.{task}.{key} is {value}, below 0. {HOW}")


def assert_sample(path: Path, number: int, row: Mapping[str, Any]) -> None:
    """Raise DataError where a line of a sample log is of another shape."""
    where = f"{path}, line {number}"
    _assert(_Sample, row, where)
    followed = row.get("inst_level_strict_acc")
    if "instruction_id_list" in row["doc"] and isinstance(followed, list):
        listed = row["doc"]["instruction_id_list"]
        _assert(_Instructions, {"instruction_id_list": listed, "followed": followed}, where)
        if len(listed) != len(followed):
            raise DataError(
                f"{where}: {len(listed)} instructions, and {len(followed)} grades of them. {HOW}"
            )


def parsed(path: Path, text: str, where: str) -> dict[str, Any]:
    """The object in a text; DataError where it has none."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise DataError(f"{path}{where}: brackets stand too deep in one another. {HOW}") from None
    except ValueError as error:  # integers of over 4,300 digits too
        raise DataError(f"{path}{where}: no JSON ({error}). {HOW}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}{where}: a {type(value).__name__}, not an object. {HOW}")
    return value


def _negative(value: object) -> bool:
    return isinstance(value, int | float) and value < 0


def _assert(shape: type[BaseModel], value: Mapping[str, Any], where: str) -> None:
    try:
        shape.model_validate(dict(value))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        says = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        given = f"{first['input']!r:.40}"
        raise DataError(f"{where}: {key}: {says} (given: {given}). {HOW}") from None
