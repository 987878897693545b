"""Paths with nothing there, or with what is no file."""

import os
import socket
from pathlib import Path

from tests.bad_inputs.files import CSV, LONG, File


def as_socket(path: Path) -> None:
    """A name in the file system that is neither file nor folder."""
    here = Path.cwd()
    try:
        os.chdir(path.parent)  # the address may have 108 bytes
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


PATHS = [
    File("missing", "h.csv", lambda path: None, "{path} does not exist: check the path."),
    File(
        "missing with its folder",
        "no/h.csv",
        lambda path: None,
        "{path} does not exist: check the path.",
    ),
    File(
        "in a file",
        "f.csv/h.csv",
        lambda path: path.parent.write_bytes(CSV),
        "{path} does not exist: check the path.",
    ),
    File(
        "a link to nowhere",
        "h.csv",
        lambda path: path.symlink_to("gone.csv"),
        "{path} is a link to gone.csv, which does not exist.",
    ),
    File(
        "a link to itself",
        "h.csv",
        lambda path: path.symlink_to(path.name),
        "{path} is a link to h.csv, which does not exist.",
    ),
    File("a folder", "h.csv", lambda path: path.mkdir(), "{path} is a folder: name a file in it."),
    File("a folder without tables", "h.parquet", lambda path: path.mkdir(), "{path} …."),
    File(
        "a pipe",
        "h.csv",
        lambda path: os.mkfifo(path),
        "{path} is a pipe or a device: save its data as a file first.",
    ),
    File(
        "a device",
        "h.csv",
        lambda path: path.symlink_to("/dev/zero"),
        "{path} is a pipe or a device: save its data as a file first.",
    ),
    File("a socket", "h.csv", as_socket, "{path} is a pipe or a device: …"),
    File(
        "a name too long",
        f"{LONG}.csv",
        lambda path: None,
        "{path} cannot be read: File name too long.",
    ),
]
