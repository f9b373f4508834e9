"""Build the wheel, install it where this runs, and type the README's commands in an empty folder.

Run by `make test-wheel` with the Python of a clean environment; never collected by pytest. Nothing
may be written but below the empty folder, and the installed package must stay as it was.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "opcd_bench", "baselines", "tasks")
"""All that a wheel is made of."""

BIN = Path(sys.executable).parent
SITE = Path(sysconfig.get_path("purelib"))
CACHES = ("cache/matplotlib", "config/matplotlib", "cache/huggingface")
"""What other packages keep below HOME: font lists and empty folders of the Hub."""

TINY = {
    "max_steps": 2, "batch_size": 4, "eval_steps": 2, "dev_items": 8, "test_items": 8,
    "retention": "none", "jobs": 1, "threads": 1,
}  # fmt: skip
"""Settings with which a real run takes seconds."""


class Failed(Exception):
    """What did not go as the README says."""


def main() -> None:
    """Install the wheel; without --install-only, then type the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--install-only", action="store_true", help="build and install, no more")
    wanted = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="opcd-wheel-") as folder:
            install(Path(folder).resolve())
            if not wanted.install_only:
                check(Path(folder).resolve())
    except Failed as error:
        sys.exit(f"test-wheel: {error}")


def install(folder: Path) -> None:
    """Build from a copy, so that no leftover of a former build gets in; install with all it needs.

    The copy also keeps the checkout clean: a build in place writes `build/` there.
    """
    copy = folder / "source"
    copy.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
            shutil.copytree(source, copy / name, ignore=unwanted)
        else:
            shutil.copy2(source, copy / name)
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(copy))
    (wheel,) = folder.glob("opcd_bench-*.whl")
    pip("uninstall", "--yes", "opcd-bench")
    pip("install", str(wheel))
    say(f"installed {wheel.name} ({wheel.stat().st_size / 1e6:.1f} MB)")


def check(folder: Path) -> None:
    """Type the commands; then look for files where there should be none."""
    work, home, temporary = (folder / name for name in ("work", "home", "tmp"))
    for made in (work, home, temporary):
        made.mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)]),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "TMPDIR": str(temporary),
        "HF_HOME": str(home / "cache" / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with unchanged(SITE, "the installed packages"), unchanged(ROOT, "the checkout"):
        commands(Shell(work, environment))
    left = [str(path.relative_to(home)) for path in files(home)]
    strange = [path for path in left if not path.startswith(CACHES)]
    if strange:
        raise Failed(f"files were written into HOME: {', '.join(strange)}")
    if left := [str(path) for path in files(temporary)]:
        raise Failed(f"temporary files were left: {', '.join(left)}")


def commands(shell: Shell) -> None:
    """The README's commands, on the built-in model."""
    assert_from_wheel(shell)
    shell("opcd-bench --help", says=["run", "estimate", "report"])
    shell("python -m opcd_bench --version", says=["opcd-bench"])
    shell("opcd-bench methods", says=["opcd", "sft_context"])
    shell("opcd-bench tasks", says=["rule_math", "frozen_lake"])
    shell("opcd-bench suites", says=["quick", "paper_math"])
    shell("opcd-bench doctor", says=["ready to run"])
    shell("opcd-bench run --suite quick --dry-run", says=["rule_math", "opcd"])
    settings = " ".join(f"--set {key}={value}" for key, value in TINY.items())
    shell(
        f"opcd-bench run --suite quick --methods opcd --name first {settings}",
        says=["1 of 1 cells done", "Report:"],
    )
    shell("opcd-bench show results/first", says=["opcd", "rule_math"])
    shell("opcd-bench verify results/first")
    shell("opcd-bench report results/first --out reports/again")
    page = shell.folder / "reports" / "again" / "index.html"
    if "opcd" not in page.read_text(encoding="utf-8"):
        raise Failed(f"{page} does not show the method")
    contributed(shell, "method", settings)
    contributed(shell, "task", settings)


def assert_from_wheel(shell: Shell) -> None:
    """The package that is tested is the installed one."""
    told = shell("python -c 'import opcd_bench; print(opcd_bench.__file__)'")
    if not Path(told.strip()).is_relative_to(SITE):
        raise Failed(f"opcd_bench comes from {told.strip()}, not from {SITE}")


def contributed(shell: Shell, kind: str, settings: str) -> None:
    """`new` writes here, and each command that it prints works as printed (the run: made small)."""
    name = f"my_{kind}"
    told = shell(f"opcd-bench new {kind} {name}", says=[f"{name}.py"])
    if not (shell.folder / f"{name}.py").is_file():
        raise Failed(f"opcd-bench new {kind} wrote no {name}.py into the working folder")
    printed = re.findall(r"opcd-bench (?:check|run) [^;`\n]*", told)
    kinds = {command.split()[1] for command in printed}
    if kinds != {"check", "run"}:
        raise Failed(f"opcd-bench new {kind} prints no check and no run to type next: {told}")
    for command in printed:
        if command.startswith("opcd-bench run"):
            shell(f"{command} --name {name} --no-report {settings}", says=["cells done", name])
            shell(f"opcd-bench verify results/{name}")
        else:
            shell(command)


class Shell:
    """Types commands in a folder."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def __call__(self, command: str, says: list[str] | None = None) -> str:
        """The output of a command that must succeed and say these words."""
        begun = time.monotonic()
        done = subprocess.run(
            shlex.split(command),
            cwd=self.folder,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        say(f"{time.monotonic() - begun:6.1f} s  {command}")
        if done.returncode:
            raise Failed(f"{command!r} ended with {done.returncode}:\n{done.stdout}")
        if missing := [word for word in says or () if word not in done.stdout]:
            raise Failed(f"{command!r} does not say {', '.join(missing)}:\n{done.stdout}")
        return done.stdout


@contextmanager
def unchanged(folder: Path, what: str) -> Iterator[None]:
    """Nothing below a folder appears, goes or changes meanwhile."""
    before = state(folder)
    yield
    after = state(folder)
    if changed := sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    ):
        raise Failed(f"{what} changed: {json.dumps(changed[:10])}")


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file of a folder with its size and its time of change."""
    found = {}
    for path in files(folder):
        status = path.stat()
        found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns)
    return found


def files(folder: Path) -> Iterator[Path]:
    """Every file of a folder, by name."""
    for place, folders, names in os.walk(folder):
        hidden = (".git", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache")
        folders[:] = sorted(n for n in folders if n not in hidden and not n.startswith(".venv"))
        yield from (Path(place) / name for name in sorted(names))


def pip(*words: str) -> None:
    """Pip, in the environment that this runs in."""
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words], check=True
    )


def say(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
