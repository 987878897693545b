"""Input files before they are tables: what they are, and the text that they hold."""

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from denograd_jax.errors import FileError

__all__ = ["LONGEST_LINE", "read_text", "reason", "refuse_missing", "refuse_no_parquet"]

LONGEST_LINE = 2**24
"""Bytes. Lines of a table with a hundred thousand columns are shorter; without a limit, a file
that is one line would be read into memory whole before it is refused."""
_BLOCK = 2**20


class Compression(NamedTuple):
    """How a compressed file is opened and what it begins with."""

    name: str
    open: Any
    signature: bytes


_COMPRESSIONS = {
    ".gz": Compression("gzip", gzip.open, b"\x1f\x8b"),
    ".bz2": Compression("bzip2", bz2.open, b"BZh"),
    ".xz": Compression("xz", lzma.open, b"\xfd7zXZ"),
}
_PARQUET = b"PAR1"
_NO_TABLES = {
    rb"PAR1[\0-\x1f]": "a Parquet file: let its name end in .parquet.",
    rb"\x1f\x8b": "compressed by gzip: let its name end in .csv.gz.",
    rb"BZh\d1AY&SY": "compressed by bzip2: let its name end in .csv.bz2.",
    rb"\xfd7zXZ": "compressed by xz: let its name end in .csv.xz.",
    rb"PK\x03\x04": "an Excel workbook or another ZIP archive: save its table as CSV UTF-8.",
    rb"\xd0\xcf\x11\xe0": "an old Excel workbook: save its table as CSV UTF-8.",
    rb"\xff\xfe|\xfe\xff": "UTF-16 or UTF-32 text: save it as CSV UTF-8.",
    rb"\x93NUMPY": "a NumPy array: use the command refine-array.",
    rb"\x89HDF|SQLite format 3\0": "a database: export its table as CSV UTF-8.",
    rb"\x89PNG|\xff\xd8\xff|GIF8|%PDF": "a picture or a document: save its table as CSV UTF-8.",
    rb"\s*<(!doctype|html|\?xml)": "a web page or XML: save its table as CSV UTF-8.",
    rb"\s*(\{\s*(\"|\})|\[\s*[\[{\]])": "JSON: save its table as CSV UTF-8.",
}
"""First bytes of files that are often given a table's name."""


def refuse_missing(path: Path) -> None:
    """Refuse what is not there, or could not be read from the beginning to the end.

    Raises:
        FileError: No such file, a link to nowhere, or a pipe or device.
    """
    try:
        found = path.exists()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {reason(error)}") from None
    if not found and path.is_symlink():
        raise FileError(f"{path} is a link to {path.readlink()}, which does not exist.")
    if not found:
        raise FileError(f"{path} does not exist: check the path.")
    if not path.is_file() and not path.is_dir():
        raise FileError(f"{path} is a pipe or a device: save its data as a file first.")


def refuse_no_parquet(path: Path) -> None:
    """Refuse a file that does not begin and end as Parquet does.

    Raises:
        FileError: What the file is instead.
    """
    with path.open("rb") as file:
        head = file.read(64)
        file.seek(-min(path.stat().st_size, len(_PARQUET)), 2)
        tail = file.read()
    if not head:
        raise FileError(f"{path} is empty.")
    if not head.startswith(_PARQUET):
        raise _belied(path, head, "Parquet")
    if tail != _PARQUET:
        raise FileError(f"{path} is not a table that can be read: it is cut off. Copy it again.")


def read_text(path: Path) -> tuple[str, bytes]:
    """The text of a CSV file, without the mark of UTF-8, and its first bytes.

    Raises:
        FileError: The file is empty, of another kind, not UTF-8, damaged, or one endless line.
    """
    compression = _COMPRESSIONS.get(path.suffix.lower())
    with path.open("rb") as raw:
        head = raw.read(64)
        if compression is not None and not head.startswith(compression.signature) and head:
            raise _belied(path, head, compression.name)
        raw.seek(0)
        if compression is None or not head:
            content = _content(path, raw)
        else:
            content = _decompressed(path, raw, compression)
    try:
        return content.decode("utf-8-sig"), content[:3]
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileError(
            f"{path} is not UTF-8 text (line {line} holds the byte 0x{content[error.start]:02x}): "
            "save it as CSV UTF-8."
        ) from None


def reason(error: Exception) -> str:
    """What another library says of its failure, as one line that ends in a full stop."""
    known = isinstance(error, OSError) and error.strerror
    words = " ".join(str(known or error).split())
    words = "".join(sign if sign.isprintable() else "?" for sign in words)
    return f"{words.rstrip('.') or type(error).__name__}."


def _belied(path: Path, head: bytes, ending: str) -> FileError:
    kind = _kind(head)
    found = f"it is {kind}" if kind else "if it is text, let its name end in .csv."
    return FileError(
        f"{path} is not a table that can be read: it is not {ending}, as its ending says; {found}"
    )


def _kind(head: bytes) -> str | None:
    """What a file is that begins so; None for what may be a table."""
    kinds = (kind for start, kind in _NO_TABLES.items() if re.match(start, head, re.IGNORECASE))
    return next(kinds, None)


def _decompressed(path: Path, raw: IO[bytes], compression: Compression) -> bytes:
    try:
        with compression.open(raw, "rb") as file:
            return _content(path, file)
    except EOFError:
        wrong = "is cut off"
    except (OSError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        wrong = "is damaged"
    raise FileError(
        f"{path} is not a table that can be read: its {compression.name} data {wrong}. Copy "
        "it again."
    )


def _content(path: Path, file: IO[bytes]) -> bytes:
    """All bytes, unless they are no text: which is found before there are many in memory."""
    blocks = []
    line = 0
    for number, block in enumerate(_blocks(file)):
        kind = None if number else _kind(block)
        if kind is not None:
            raise FileError(f"{path} is not a table that can be read: it is {kind}")
        if b"\0" in block:
            raise FileError(
                f"{path} is not UTF-8 text (byte {number * _BLOCK + block.index(0)} is NUL): save "
                "it as CSV UTF-8."
            )
        end = max(block.rfind(b"\n"), block.rfind(b"\r"))
        line = len(block) - end - 1 + (line if end < 0 else 0)
        if line > LONGEST_LINE:
            raise FileError(
                f"{path} has a line of more than {LONGEST_LINE >> 20} MiB: end each row of the "
                "table by a line break."
            )
        blocks.append(block)
    return b"".join(blocks)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block
