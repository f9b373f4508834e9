"""`opcd-bench doctor`: what is installed, what is missing, and what to type."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated, Literal

import typer
from packaging.requirements import Requirement

from opcd_bench.cli.output import Json, exit_if, print_json, text_table
from opcd_bench.cli.show import OutputDir
from opcd_bench.errors import ConfigError, ModelError, UserError
from opcd_bench.models import model_dir as folders
from opcd_bench.models.stored_weights import weights_digest
from opcd_bench.progress import reporter

State = Literal["ok", "missing", "optional"]
FREE_GIB = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing looked for: ``optional`` is absent and needed by some suites only."""

    what: str
    state: State
    detail: str
    type_this: str = ""


def doctor(
    output_dir: OutputDir = "results",
    model_dir: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder with local models, as `run --model-dir` takes it: shows what it holds.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="slurm|ray", help="Run a hello job there, and say what it came to."),
    ] = None,
    cluster_set: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="What the job asks for, as `run` takes it."),
    ] = None,
    json: Json = False,
) -> None:
    """Show what is installed and what is missing; exit 1 if something required is missing."""
    if cluster_set and cluster is None:
        raise ConfigError("--cluster-set is given without --cluster; add --cluster slurm or ray")
    found = list(findings(Path(output_dir), folders.given(model_dir)))
    if cluster is not None:
        found.append(_hello(cluster, cluster_set or (), Path(output_dir)))
    missing = any(finding.state == "missing" for finding in found)
    if json:
        print_json({"ok": not missing, "findings": [asdict(finding) for finding in found]})
    else:
        print(text_table(["what", "state", "detail"], [[f.what, f.state, f.detail] for f in found]))
        for finding in found:
            if finding.state != "ok" and finding.type_this:
                print(f"\n{finding.what}: type\n  {finding.type_this}")
        print("\n" + ("something required is missing" if missing else "ready to run"))
    exit_if(missing)


def findings(output_dir: Path, model_dir: str | None = None) -> Iterator[Finding]:
    """All that is looked for, in the order in which it is printed."""
    yield _python()
    yield from _required_packages()
    yield from _extras()
    yield _device()
    yield from _resources()
    yield from _models(model_dir)
    yield _disk(output_dir)
    yield _writable(output_dir)


def _hello(cluster: str, assignments: Sequence[str], output_dir: Path) -> Finding:
    """What a job of the cluster says of where it ran."""
    from opcd_bench.cli import settings
    from opcd_bench.runner.cluster import hello

    given = {"cluster": cluster, "cluster_set": list(assignments), "output_dir": str(output_dir)}
    suite = settings.make("quick", given)
    began = time.monotonic()
    try:
        where = hello.said(suite, console=reporter())
    except UserError as error:
        return Finding(f"cluster {cluster}", "missing", str(error))
    return Finding(f"cluster {cluster}", "ok", f"{where}, after {time.monotonic() - began:.0f} s")


def _python() -> Finding:
    here = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return Finding("python", "ok" if good else "missing", here, "" if good else "make quickstart")


def _required_packages() -> Iterator[Finding]:
    for text in requires("opcd-bench") or []:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        install = f"pip install '{wanted.name}{wanted.specifier}'"
        try:
            here = version(wanted.name)
        except PackageNotFoundError:
            yield Finding(wanted.name, "missing", f"needs {wanted.specifier}", install)
            continue
        if wanted.specifier.contains(here, prereleases=True):
            yield Finding(wanted.name, "ok", here)
        else:
            yield Finding(wanted.name, "missing", f"{here}, needs {wanted.specifier}", install)


EXTRAS = {
    "vllm": ("vllm", "rollouts by vLLM"),
    "peft": ("lora", "training by LoRA"),
    "gguf": ("gguf", "opcd-bench import-gguf"),
    "submitit": ("slurm", "--cluster slurm"),
    "ray": ("ray", "--cluster ray"),
    "bitsandbytes": ("adam8bit", "optim = adamw_8bit"),
    "tensorboard": ("trackers", "--report-to tensorboard"),
    "wandb": ("trackers", "--report-to wandb"),
}


def _extras() -> Iterator[Finding]:
    for package, (extra, purpose) in EXTRAS.items():
        install = f"pip install 'opcd-bench[{extra}]'"
        if importlib.util.find_spec(package) is None:
            yield Finding(package, "optional", f"not installed; for {purpose}", install)
        else:
            yield Finding(package, "ok", f"{version(package)}, for {purpose}")


def _device() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("device", "optional", "unknown without torch")
    import torch

    cores = f"{os.cpu_count()} CPU cores"
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding(
            "device", "ok", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB; {cores}"
        )
    detail = f"no GPU; {cores} (the quick and micro suites need no more)"
    if importlib.util.find_spec("transformers") is not None:
        from opcd_bench.models import cpu

        detail += f"; {cpu.bf16_pace()}"
    return Finding("device", "ok", detail)


def _resources() -> Iterator[Finding]:
    from opcd_bench.evaluation import retention

    packages = {Requirement(text).name for text in requires("opcd-bench") or []}
    for what, present, install in retention.probe():
        if what in packages:
            continue
        detail = "there" if present else "not there"
        yield Finding(what, "ok" if present else "optional", detail, install)


def _models(model_dir: str | None) -> Iterator[Finding]:
    """The models of a model_dir by their names, each as a suite would find it."""
    if model_dir is None:
        return
    found = folders.models_in(model_dir)
    if not found:
        again = "opcd-bench import-gguf FILE.gguf " + f"{model_dir}/OWNER/NAME"
        yield Finding("model folder", "optional", f"{model_dir} holds no model", again)
    for name, folder in found:
        try:
            made, weights = folders.record(folder), weights_digest(folder)[:10]
            origin = "" if made is None else f", from {made['file']} ({made['quantisation']})"
            yield Finding(name, "ok", f"{folder}: weights {weights}…{origin}")
        except (ModelError, KeyError) as error:
            yield Finding(name, "optional", str(error), f"opcd-bench import-gguf FILE {folder}")


def _disk(output_dir: Path) -> Finding:
    place = _existing(output_dir)
    free = shutil.disk_usage(place).free / 2**30
    detail = f"{free:.1f} GiB free at {place}"
    if free >= FREE_GIB:
        return Finding("disk space", "ok", detail)
    return Finding(
        "disk space",
        "missing",
        f"{detail}; runs need {FREE_GIB:g}",
        "opcd-bench run --output-dir …",
    )


def _writable(output_dir: Path) -> Finding:
    place = _existing(output_dir)
    if os.access(place, os.W_OK | os.X_OK):
        return Finding("results folder", "ok", f"{output_dir} can be written")
    return Finding(
        "results folder",
        "missing",
        f"{place} cannot be written",
        "opcd-bench run --output-dir FOLDER (one that you may write)",
    )


def _existing(path: Path) -> Path:
    """The path, or the nearest of its parents that is there."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path
