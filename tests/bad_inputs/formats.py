"""Files that are empty, or not the kind of text or Parquet that they should be."""

import bz2
import gzip
import io
import lzma

import pandas as pd

from tests.bad_inputs.files import CSV, NO_TABLE, TEXT, File
from tests.bad_inputs.good import table

SAVE = "save it as CSV UTF-8."

_LONGER = pd.concat([table()] * 40).to_csv().encode()


def parquet(frame: pd.DataFrame) -> bytes:
    content = io.BytesIO()
    frame.to_parquet(content)
    return content.getvalue()


def compressed_but_damaged() -> bytes:
    content = bytearray(gzip.compress(_LONGER))
    middle = len(content) // 2
    content[middle : middle + 40] = b"\xff" * 40
    return bytes(content)


FORMATS = [
    File("empty", "h.csv", b"", "{path} is empty."),
    File("empty lines", "h.csv", b"\n  \r\n\n", "{path} is empty."),
    File("a mark and nothing else", "h.csv", b"\xef\xbb\xbf", "{path} is empty."),
    File("empty and compressed", "h.csv.xz", b"", "{path} is empty."),
    File("empty inside", "h.csv.gz", gzip.compress(b""), "{path} is empty."),
    File("empty Parquet", "h.parquet", b"", "{path} is empty."),
    File(
        "header only",
        "h.csv",
        b"a,b,y\n",
        "{path} has a header but no rows: there is nothing to refine.",
    ),
    File(
        "header without an end",
        "h.csv",
        b"a,b,y",
        "{path} has a header but no rows: there is nothing to refine.",
    ),
    File(
        "Parquet without rows",
        "h.parquet",
        lambda path: table().iloc[:0].to_parquet(path),
        "{path} has a header but no rows: there is nothing to refine.",
    ),
    File(
        "Parquet without columns",
        "h.parquet",
        lambda path: pd.DataFrame(index=range(3)).to_parquet(path),
        "{path} has no columns: there is nothing to refine.",
    ),
    File(
        "UTF-16", "h.csv", TEXT.encode("utf-16"), f"{NO_TABLE} it is UTF-16 or UTF-32 text: {SAVE}"
    ),
    File(
        "UTF-32", "h.csv", TEXT.encode("utf-32"), f"{NO_TABLE} it is UTF-16 or UTF-32 text: {SAVE}"
    ),
    File(
        "UTF-16 without a mark",
        "h.csv",
        TEXT.encode("utf-16-le"),
        f"{{path}} is not UTF-8 text (byte 1 is NUL): {SAVE}",
    ),
    File(
        "Latin-1 in the header",
        "h.csv",
        TEXT.replace("a", "Größe", 1).encode("latin-1"),
        f"{{path}} is not UTF-8 text (line 1 holds the byte 0xf6): {SAVE}",
    ),
    File(
        "Latin-1 in a cell",
        "h.csv",
        CSV + "1,2,Höhe\n".encode("latin-1"),
        f"{{path}} is not UTF-8 text (line 26 holds the byte 0xf6): {SAVE}",
    ),
    File(
        "UTF-8 cut within a character",
        "h.csv",
        CSV + "1,2,ö".encode()[:-1],
        f"{{path}} is not UTF-8 text (line 26 holds the byte 0xc3): {SAVE}",
    ),
    File(
        "NUL", "h.csv", b"a,b,y\n1,\0\0,3\n", f"{{path}} is not UTF-8 text (byte 8 is NUL): {SAVE}"
    ),
    File("zeros", "h.csv", bytes(9000), f"{{path}} is not UTF-8 text (byte 0 is NUL): {SAVE}"),
    File(
        "noise",
        "h.csv",
        bytes(range(200, 256)) * 9,
        f"{{path}} is not UTF-8 text (line 1 …): {SAVE}",
    ),
    File(
        "a picture",
        "h.csv",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)),
        f"{NO_TABLE} it is a picture or a document: save its table as CSV UTF-8.",
    ),
    File(
        "a workbook",
        "h.csv",
        b"PK\x03\x04\x14\0" + bytes(range(256)),
        f"{NO_TABLE} it is an Excel workbook or another ZIP archive: save its table as CSV UTF-8.",
    ),
    File(
        "an old workbook",
        "h.csv",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99),
        f"{NO_TABLE} it is an old Excel workbook: save its table as CSV UTF-8.",
    ),
    File(
        "a NumPy array",
        "h.csv",
        lambda path: path.write_bytes(b"\x93NUMPY\x01\0v\0{'descr': '<f8'}"),
        f"{NO_TABLE} it is a NumPy array: use the command refine-array.",
    ),
    File(
        "JSON",
        "h.csv",
        b'[{"a": 1, "y": 2}, {"a": 2, "y": 3}]',
        f"{NO_TABLE} it is JSON: save its table as CSV UTF-8.",
    ),
    File(
        "JSON lines",
        "h.csv",
        b'{"a": 1, "y": 2}\n{"a": 2, "y": 3}\n',
        f"{NO_TABLE} it is JSON: save its table as CSV UTF-8.",
    ),
    File(
        "a web page",
        "h.csv",
        b"\n<!DOCTYPE html>\n<html><body>404, not found</body></html>\n",
        f"{NO_TABLE} it is a web page or XML: save its table as CSV UTF-8.",
    ),
    File(
        "a workbook by name",
        "h.xlsx",
        CSV,
        "{path} has no ending of a table: use .csv, .csv.gz, .csv.bz2, .csv.xz or .parquet.",
    ),
    File("JSON by name", "h.json", b"[]", "{path} has no ending of a table: …"),
    File("no ending", "h", CSV, "{path} has no ending of a table: …"),
    File("nothing but an ending", ".csv", CSV, "{path} has no ending of a table: …"),
    File("another compression", "h.csv.zst", CSV, "{path} has no ending of a table: …"),
    File(
        "gzip, not named so",
        "h.csv",
        gzip.compress(CSV),
        f"{NO_TABLE} it is compressed by gzip: let its name end in .csv.gz.",
    ),
    File(
        "bzip2, not named so",
        "h.csv",
        bz2.compress(CSV),
        f"{NO_TABLE} it is compressed by bzip2: let its name end in .csv.bz2.",
    ),
    File(
        "xz, not named so",
        "h.csv",
        lzma.compress(CSV),
        f"{NO_TABLE} it is compressed by xz: let its name end in .csv.xz.",
    ),
    File(
        "text named gzip",
        "h.csv.gz",
        CSV,
        f"{NO_TABLE} it is not gzip, as its ending says; if it is text, let its name end in .csv.",
    ),
    File(
        "gzip named xz",
        "h.csv.xz",
        gzip.compress(CSV),
        f"{NO_TABLE} it is not xz, as its ending says; it is compressed by gzip: let its name end "
        "in .csv.gz.",
    ),
    File(
        "gzip within gzip",
        "h.csv.gz",
        gzip.compress(gzip.compress(CSV)),
        f"{NO_TABLE} it is compressed by gzip: let its name end in .csv.gz.",
    ),
    File(
        "gzip cut off",
        "h.csv.gz",
        gzip.compress(_LONGER)[:-400],
        f"{NO_TABLE} its gzip data is cut off. Copy it again.",
    ),
    File(
        "bzip2 cut off",
        "h.csv.bz2",
        bz2.compress(_LONGER)[:-40],
        f"{NO_TABLE} its bzip2 data is cut off. Copy it again.",
    ),
    File(
        "xz cut off",
        "h.csv.xz",
        lzma.compress(_LONGER)[:-40],
        f"{NO_TABLE} its xz data is cut off. Copy it again.",
    ),
    File(
        "gzip damaged",
        "h.csv.gz",
        compressed_but_damaged(),
        f"{NO_TABLE} its gzip data is damaged. Copy it again.",
    ),
    File(
        "Parquet named CSV",
        "h.csv",
        lambda path: path.write_bytes(parquet(table())),
        f"{NO_TABLE} it is a Parquet file: let its name end in .parquet.",
    ),
    File(
        "CSV named Parquet",
        "h.parquet",
        CSV,
        f"{NO_TABLE} it is not Parquet, as its ending says; if it is text, let its name end in "
        ".csv.",
    ),
    File(
        "Parquet cut off",
        "h.parquet",
        lambda path: path.write_bytes(parquet(table())[:-300]),
        f"{NO_TABLE} it is cut off. Copy it again.",
    ),
    File(
        "Parquet damaged",
        "h.parquet",
        b"PAR1" + bytes(range(256)) * 4 + b"PAR1",
        f"{NO_TABLE} ….",
    ),
]
