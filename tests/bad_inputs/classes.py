"""Targets of classes that are none, and options that say nothing of them."""

import numpy as np

from denograd_jax.errors import (
    BackboneError,
    ColumnError,
    DataError,
    ModelError,
    UnsupportedError,
)
from tests.bad_inputs.calls import Call
from tests.bad_inputs.good import HOURS, cycle, table

CLASSES = [
    Call(
        "one class",
        lambda: table(w="p"),
        {"target": "w"},
        DataError,
        "target column 'w' has 1 class(es), ['p']: there must be two or more.",
        in_file=True,
    ),
    Call(
        "classes in fractions",
        table,
        {"target": "y", "classes": True},
        DataError,
        "target column 'y' holds …, which is no class: labels are text, whole numbers, booleans or "
        "categories. A quantity is refined by refine(frame, target).",
    ),
    Call(
        "classes of dates",
        lambda: table(w=HOURS),
        {"target": "w", "classes": True},
        UnsupportedError,
        "target column 'w' holds dates (datetime64[…]), which are no classes.",
    ),
    Call(
        "classes without values",
        lambda: table(w=np.nan),
        {"target": "w", "classes": True},
        DataError,
        "target column 'w' has no value at all: there is nothing to learn from.",
    ),
    Call(
        "classes of a series",
        lambda: table(w=cycle("p", "q")),
        {"target": "w", "window": 3},
        UnsupportedError,
        "target column 'w' holds classes, which are for rows: leave the window out, or name a "
        "column of numbers.",
        in_file=True,
    ),
    Call(
        "classes beside numbers",
        lambda: table(w=cycle("p", "q")),
        {"target": ["w", "y"]},
        ColumnError,
        "classes are the labels in one target column, not in 2 (w, y): name the one that holds "
        "them; of one-hot columns make one with .idxmax(axis=1).",
        in_file=True,
    ),
    Call(
        "classes without a target",
        table,
        {"classes": True},
        ColumnError,
        "classes are the labels in one target column, not in 0: name the one that holds them; …",
    ),
    Call(
        "classes by a word",
        table,
        {"target": "y", "classes": "yes"},
        UnsupportedError,
        "classes must be True, False or None, not 'yes'.",
    ),
    Call(
        "nothing but classes",
        lambda: table(w=cycle("p", "q"))[["w"]],
        {"target": "w"},
        ColumnError,
        "no column is numeric: only numbers can be refined.",
        in_file=True,
    ),
    Call(
        "a mixture of classes",
        lambda: table(w=cycle("p", "q")),
        {"target": "w", "model": "mixture"},
        BackboneError,
        "a mixture explains numbers, not classes: choose another backbone, such as mlp, linear, "
        "ft_transformer.",
        in_file=True,
    ),
    Call(
        "one logit for two classes",
        lambda: table(w=cycle("p", "q")),
        {"target": "w", "model": lambda x: x[:1]},
        ModelError,
        "for an input of shape (3,) (columns a, b, y) the model returns an array of shape (1,), "
        "not one of shape (2,): a logit for each class of 'w', in the order p, q.",
    ),
    Call(
        "a rule that moves the target, of classes",
        lambda: table(w=cycle("p", "q")),
        {"target": "w", "rule": "gauss_newton"},
        UnsupportedError,
        'this rule needs a target that moves, which classes are not: take rule="auto" or '
        '"unit_step", or let labels move by soft_labels=True.',
        in_file=True,
    ),
    Call(
        "soft labels of numbers",
        table,
        {"target": "y", "soft_labels": True},
        UnsupportedError,
        "soft_labels is for a target of classes: leave it out, or set classes=True.",
    ),
    Call(
        "soft labels by a density",
        lambda: table(w=cycle("p", "q")),
        {"target": "w", "soft_labels": True, "rule": "auto"},
        UnsupportedError,
        'rule="auto" moves no label: leave soft_labels out, or choose another rule, such as '
        'rule="unit_step".',
    ),
    Call(
        "soft labels with known noise",
        lambda: table(w=cycle("p", "q")),
        {"target": "w", "soft_labels": True, "noise_scale": 0.1},
        UnsupportedError,
        "noise_scale says nothing of labels: leave it out, or soft_labels.",
    ),
    Call(
        "soft labels that are frozen",
        lambda: table(w=cycle("p", "q")),
        {"target": "w", "soft_labels": True, "frozen": "w"},
        ColumnError,
        "target 'w' is frozen: soft_labels cannot move it.",
    ),
]
