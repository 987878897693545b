"""Fitted models and refinements in folders, there and back."""

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from denograd_jax import backbones
from denograd_jax._core._run import Status
from denograd_jax._frames._classes import Classes, Judgement
from denograd_jax._frames._constraints import Constraints
from denograd_jax._frames._containers import open_container
from denograd_jax._frames._containers._files import read_container, write_container
from denograd_jax._frames._fitted import Fitted
from denograd_jax._frames._folders import (
    Kind,
    from_plain,
    open_folder,
    read_arrays,
    to_plain,
    write_arrays,
    write_folder,
)
from denograd_jax._frames._folds import Folds
from denograd_jax._frames._noise_found import FoundNoise
from denograd_jax._frames._reading import Design, read
from denograd_jax._frames._recording import Origin, assemble
from denograd_jax._frames._row_density import RowDensity
from denograd_jax._frames._schema import Scaling, Schema
from denograd_jax._frames._solving import Outcome
from denograd_jax._types import Model, Params
from denograd_jax.errors import UnsupportedError
from denograd_jax.layouts import Windows
from denograd_jax.models import by_fold

if TYPE_CHECKING:
    from denograd_jax._frames._refinement import Refinement

__all__ = ["FITTED", "as_plain", "from_saved", "load_fitted", "load_refinement"]
__all__ += ["save_fitted", "save_refinement"]

FITTED = Kind("fitted model of denograd-jax", 1)
REFINEMENT = Kind("refinement of denograd-jax", 1)
MIXTURE = "mixture"
"""The model that is no backbone of its own, but made of the density of rows."""


def save_fitted(fitted: Fitted, folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """See `Fitted.save`."""
    record, arrays = as_plain(fitted)
    with write_folder(folder, FITTED, record, overwrite=overwrite) as aside:
        write_arrays(aside / "arrays.npz", arrays)


def load_fitted(folder: str | os.PathLike[str]) -> Fitted:
    """See `Fitted.load`."""
    with open_folder(folder, FITTED) as (path, record):
        return from_saved(record, read_arrays(path / "arrays.npz"))


def as_plain(fitted: Fitted) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """A fitted model as JSON and arrays.

    Raises:
        UnsupportedError: The model was given: its code is not ours to save.
    """
    if fitted.backbone is None:
        raise UnsupportedError(
            "the model was given, and is saved by its own library: only backbones trained here "
            "can be saved with their scaling."
        )
    record, arrays = _columns_as_plain(fitted)
    record |= {
        "backbone": fitted.backbone,
        "input_shape": list(fitted.input_shape),
        "seed": fitted.seed,
    }
    if fitted.noise is not None:
        arrays |= {f"noise {name}": array for name, array in fitted.noise._asdict().items()}
    if fitted.backbone == MIXTURE:  # its weights are those of the density of rows
        return record, arrays
    return record, arrays | {f"weight {k}": v for k, v in _named(fitted.model.params).items()}


def from_saved(record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Fitted:
    """What `as_plain` was given."""
    fitted = _columns_from_saved(record, arrays)
    noise = _noise_from_saved(arrays)
    if record["backbone"] == MIXTURE:
        model = _density(noise).regression()
    else:
        folds = fitted.design.folds
        model = _trained_from_saved(record, arrays, fitted.outputs, folds)
    return dataclasses.replace(
        fitted,
        model=model,
        backbone=record["backbone"],
        input_shape=tuple(record["input_shape"]),
        seed=record["seed"],
        noise=noise,
    )


def _trained_from_saved(
    record: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    outputs: int,
    folds: Folds | None,
) -> Model:
    module = backbones.build(
        record["backbone"],
        input_shape=tuple(record["input_shape"]),
        outputs=outputs,
        rngs=nnx.Rngs(0),
    )
    model = backbones.as_pure(module)
    if folds is not None:
        like = jax.tree.map(lambda leaf: jax.numpy.stack([leaf] * folds.count), model.params)
        model = by_fold(model._replace(params=like))
    weights = {
        name.removeprefix("weight "): array
        for name, array in arrays.items()
        if name.startswith("weight ")
    }
    return model._replace(params=_with_weights(model.params, weights))


def _noise_from_saved(arrays: Mapping[str, NDArray[Any]]) -> FoundNoise | RowDensity | None:
    if "noise likely" not in arrays:
        return None
    kind = RowDensity if "noise weights" in arrays else FoundNoise
    return kind(*(arrays[f"noise {name}"] for name in kind._fields))


def _density(noise: FoundNoise | RowDensity | None) -> RowDensity:
    if not isinstance(noise, RowDensity):
        raise ValueError("its density of rows is missing")
    return noise


def save_refinement(
    refinement: "Refinement", folder: str | os.PathLike[str], *, overwrite: bool
) -> None:
    """See `Refinement.save`."""
    fitted, origin = refinement.fitted, refinement.origin
    outcome, limits = origin.outcome, origin.constraints
    trained = fitted.backbone is not None
    of_model, arrays = as_plain(fitted) if trained else _columns_as_plain(fitted)
    data, target = origin.reading.opened.given
    apart = origin.reading.design.apart
    record = {
        "fitted": of_model,
        "target": None if apart else _labels_as_plain(target),
        "status": int(outcome.status),
        "steps": outcome.steps,
        "lag": refinement.lag,
        "dry_run": refinement.dry_run,
        "settings": {name: _told(value) for name, value in refinement.settings.items()},
        "provenance": {name: _told(value) for name, value in refinement.provenance.items()},
        "notes": refinement.notes,
    }
    arrays |= {
        "after": refinement.after.to_numpy(),
        "residuals before": outcome.residuals[0],
        "residuals after": outcome.residuals[1],
        "gate": outcome.gate,
        "windows": outcome.windows,
        **{f"limit {name}": getattr(limits, name) for name in _LIMITS},
    }
    if outcome.judgement is not None:
        judged = outcome.judgement._asdict().items()
        arrays |= {f"judged {name}": array for name, array in judged if array is not None}
    containers: dict[str, Any] = {}
    record["containers"] = containers
    with write_folder(folder, REFINEMENT, record, overwrite=overwrite) as aside:
        containers["data"] = write_container(data, aside, "data")
        containers["target"] = write_container(target if apart else None, aside, "target")
        write_arrays(aside / "arrays.npz", arrays)


def load_refinement(folder: str | os.PathLike[str]) -> "Refinement":
    """See `Refinement.load`."""
    with open_folder(folder, REFINEMENT) as (path, record):
        arrays = read_arrays(path / "arrays.npz")
        about = record["fitted"]
        make = from_saved if "backbone" in about else _columns_from_saved
        fitted = make(about, arrays)
        data = read_container(record["containers"]["data"], path)
        target = read_container(record["containers"]["target"], path)
        if not fitted.design.apart:
            target = _labels_from_saved(record["target"])
        reading = read(fitted.schema, open_container(data, target), fitted.design)
        limits = Constraints(*(arrays[f"limit {name}"] for name in _LIMITS))
        outcome = _outcome(record, arrays, reading.table.values, reading.table.movable)
        return assemble(
            fitted,
            Origin(reading, limits, outcome),
            lag=record["lag"],
            dry_run=record["dry_run"],
            settings=record["settings"],
            provenance=record["provenance"],
            notes=record["notes"],
        )


_LIMITS = ("lower", "upper", "whole", "most")


def _outcome(
    record: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    given: NDArray[np.float64],
    movable: NDArray[np.bool_],
) -> Outcome:
    values = given.copy()
    values[:, movable] = arrays["after"]
    return Outcome(
        values,
        (arrays["residuals before"], arrays["residuals after"]),
        arrays["gate"],
        arrays["windows"],
        Status(record["status"]),
        record["steps"],
        _judgement(arrays),
    )


def _judgement(arrays: Mapping[str, NDArray[Any]]) -> Judgement | None:
    if "judged before" not in arrays:
        return None
    return Judgement(arrays["judged before"], arrays["judged after"], arrays.get("judged labels"))


def _columns_as_plain(fitted: Fitted) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """All but the model."""
    schema, design = fitted.schema, fitted.design
    layout = design.layout
    record = {
        "labels": _labels_as_plain(list(schema.labels)),
        "levels": [
            [to_plain(label), _labels_as_plain(list(levels))]
            for label, levels in schema.levels.items()
        ],
        "groups": schema.scaling.groups,
        "notes": schema.notes,
        "step": schema.step,
        "classes": _classes_as_plain(schema.classes),
        "design": {
            "targets": _labels_as_plain(list(design.targets)),
            "apart": design.apart,
            "time": to_plain(design.time),
            "groups": _labels_as_plain(list(design.groups)),
            "frozen": _labels_as_plain(list(design.frozen)),
            "layout": None if layout is None else [layout.length, layout.horizon, layout.stride],
            "irregular": design.irregular,
            "scale": design.scale,
            "folds": None if design.folds is None else list(dataclasses.astuple(design.folds)),
            "classes": design.classes,
        },
        "explained": _labels_as_plain(list(fitted.explained)),
        "settings": {name: _told(value) for name, value in fitted.settings.items()},
    }
    scaling = schema.scaling
    arrays = {"movable": schema.movable, "mean": scaling.mean, "scale": scaling.scale}
    return record, arrays


def _columns_from_saved(record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Fitted:
    groups = record["groups"]
    schema = Schema(
        tuple(_labels_from_saved(record["labels"])),
        arrays["movable"],
        {from_plain(label): tuple(_labels_from_saved(many)) for label, many in record["levels"]},
        Scaling(arrays["mean"], arrays["scale"], None if groups is None else tuple(groups)),
        tuple(record["notes"]),
        record["step"],
        _classes_from_saved(record.get("classes")),
    )
    design = dict(record["design"])
    layout = design.pop("layout")
    for name in ("targets", "groups", "frozen"):
        design[name] = tuple(_labels_from_saved(design[name]))
    design["time"] = from_plain(design["time"])
    folds = design.get("folds")
    design["folds"] = None if folds is None else Folds(*folds)
    return Fitted(
        schema,
        Design(**design, layout=None if layout is None else Windows(*layout)),
        Model(_not_saved, None),
        tuple(_labels_from_saved(record["explained"])),
        None,
        (),
        None,
        record["settings"],
    )


def _classes_as_plain(classes: Classes | None) -> dict[str, Any] | None:
    if classes is None:
        return None
    return {
        "label": to_plain(classes.label),
        "names": _labels_as_plain(list(classes.names)),
        "notes": classes.notes,
    }


def _classes_from_saved(record: Mapping[str, Any] | None) -> Classes | None:
    if record is None:
        return None
    names = tuple(_labels_from_saved(record["names"]))
    return Classes(from_plain(record["label"]), names, tuple(record["notes"]))


def _not_saved(params: Params, x: jax.Array) -> jax.Array:
    raise UnsupportedError(
        "the model of this refinement was given and not saved with it: fit(data, model=...) again."
    )


def _named(params: Params) -> dict[str, NDArray[Any]]:
    paths, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in paths}


def _with_weights(params: Params, weights: Mapping[str, NDArray[Any]]) -> Params:
    named = _named(params)
    shapes = {name: array.shape for name, array in named.items()}
    if shapes != {name: array.shape for name, array in weights.items()}:
        raise ValueError("its weights are not those of the backbone that it names")
    structure = jax.tree.structure(params)
    return jax.tree.unflatten(structure, [jax.numpy.asarray(weights[name]) for name in named])


def _labels_as_plain(labels: Any) -> Any:
    """One label, or a collection of them as a list."""
    if isinstance(labels, list | set | frozenset | np.ndarray):
        return [to_plain(label) for label in labels]
    return to_plain(labels)


def _labels_from_saved(labels: Any) -> Any:
    return (
        [from_plain(label) for label in labels] if isinstance(labels, list) else from_plain(labels)
    )


def _told(value: object) -> Any:
    """A setting as JSON, in words where it is no plain value."""
    try:
        return to_plain(value)
    except UnsupportedError:
        return str(value)
