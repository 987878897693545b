"""Every refusal of the library, as one small hierarchy.

Each exception is also the built-in `ValueError` or `TypeError` that a caller would expect, and its
message says what was seen, what was expected and what to do.
"""

__all__ = [
    "BackboneError",
    "ColumnError",
    "DataError",
    "DenogradError",
    "FileError",
    "MissingExtraError",
    "ModelError",
    "ShapeError",
    "UnsupportedError",
]


class DenogradError(Exception):
    """Root of every error raised on purpose by `denograd_jax`."""

    def __str__(self) -> str:
        """One line, whatever the objects that it quotes look like."""
        return " ".join(super().__str__().split())


class ShapeError(DenogradError, ValueError):
    """Arrays whose shapes do not fit each other, the layout or the model."""


class DataError(DenogradError, ValueError):
    """Values that cannot be refined: infinite, all missing, no rows."""


class ColumnError(DenogradError, ValueError):
    """A column that is unknown, has the wrong kind, or plays two roles."""


class ModelError(DenogradError, ValueError):
    """A model whose output does not match the target."""


class UnsupportedError(DenogradError, TypeError):
    """An object of a kind that the library cannot work with."""


class BackboneError(DenogradError, ValueError):
    """An unknown backbone, or one that cannot be trained on the data given."""


class FileError(DenogradError, ValueError):
    """A file that cannot be read as a table, or must not be written."""


class MissingExtraError(DenogradError, ImportError):
    """An optional dependency is missing; the message names the extra to install."""
