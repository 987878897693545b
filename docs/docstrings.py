"""Docstrings as the reference wants them (a Griffe extension).

Formulas become MathML, which browsers draw by themselves; `Example:` becomes the section that
shows doctests as code; a type alias that says all by itself is shown without a docstring, too.
"""

import re
import textwrap
from typing import Any

import griffe
from latex2mathml.converter import convert

BLOCK = re.compile(r"^( *)\.\. math:: *(.*(?:\n\1 +\S.*)*)", re.MULTILINE)
INLINE = re.compile(r":math:`([^`]+)`")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrite docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Look at every docstring once."""
        if obj.docstring is None and str(getattr(obj, "annotation", "")) == "TypeAlias":
            obj.docstring = griffe.Docstring("A name for a type.", parent=obj)
        if obj.docstring is not None:
            text = EXAMPLE.sub("Examples:", obj.docstring.value)
            text = BLOCK.sub(_block, text)
            obj.docstring.value = INLINE.sub(lambda match: convert(_line(match[1])), text)


def _block(match: re.Match[str]) -> str:
    formula = convert(_line(match[2]), display="block")
    return textwrap.indent(f'<div class="formula">{formula}</div>', match[1])


def _line(formula: str) -> str:
    return " ".join(formula.split())
