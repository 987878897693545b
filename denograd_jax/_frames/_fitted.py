"""A model fitted to data, with all that it takes to refine that data and more of its kind."""

import dataclasses
import functools
import logging
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from denograd_jax import backbones
from denograd_jax._core._prepare import prepare
from denograd_jax._frames._columns import listed
from denograd_jax._frames._containers import Opened, open_container
from denograd_jax._frames._frozen_models import (
    cross_fit_backbone,
    fit_linear_backbone,
    in_user_units,
    refuse_training,
    train_backbone,
)
from denograd_jax._frames._noise_found import FoundNoise, find_noise
from denograd_jax._frames._planning import (
    Moves,
    Plan,
    Progress,
    make_plan,
    refuse_fractions,
    refuse_progress,
    refuse_unknown,
)
from denograd_jax._frames._problems import Problem
from denograd_jax._frames._reading import Design, Reading, Scale, learn, own, read, read_design
from denograd_jax._frames._recording import record
from denograd_jax._frames._refinement import Refinement
from denograd_jax._frames._row_density import RowDensity, find_row_density
from denograd_jax._frames._schema import Schema
from denograd_jax._frames._solving import solve
from denograd_jax._frames._timeline import Irregular
from denograd_jax._types import Model
from denograd_jax.errors import BackboneError, ColumnError, UnsupportedError
from denograd_jax.robust._policies import TrainingName

__all__ = ["Fitted", "fit", "fit_reading", "refine_reading"]

logger = logging.getLogger("denograd_jax")


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Fitted:
    """A frozen model with its columns and scaling: refines the data it was fitted on, and others.

    Attributes:
        schema: The columns that it knows, and their scaling.
        design: What is target, time, group; windows or rows.
        model: The model, in standardised units.
        explained: Labels that it predicts.
        backbone: Name of the backbone trained here; None where the user gave a model.
        input_shape: Shape of one instance.
        seed: Of the training; None where the user gave a model.
        settings: How the model came about, in print order.
        interrupted: Whether its training was ended by Ctrl-C.
        noise: What the data it was fitted on say of their noise; None where that was not asked for.
    """

    schema: Schema
    design: Design
    model: Model
    explained: tuple[Hashable, ...]
    backbone: str | None
    input_shape: tuple[int, ...]
    seed: int | None
    settings: Mapping[str, object]
    interrupted: bool = False
    noise: FoundNoise | RowDensity | None = None

    @property
    def outputs(self) -> int:
        """How many numbers the model gives for an instance: one a target, or one a class."""
        classes = self.schema.classes
        return len(self.explained) if classes is None else len(classes.names)

    def refine(self, data: Any, target: Any = None, **moves: Unpack[Moves]) -> Refinement:
        """Refine data that has the columns that the model was fitted with.

        Units and levels are those of the data that it was fitted on: nothing is learnt anew.

        Look-ahead: as `denograd_jax.refine`; with `causal=True` none at all, where the data begins
        after that which the model was fitted on.

        Args:
            data: As `denograd_jax.refine` takes it; more columns are passed through unseen.
            target: Values of the target, where they were given beside the data when fitting; else
                its label, or None.
            **moves: `rule`, `step_size`, `tolerance`, `max_steps`, `impute`, `frozen_rows`,
                `bounds`, `non_negative`, `integer`, `max_change`, `noise_scale`, `soft_labels`,
                `causal`, `lag`, `dry_run` and `progress`, as `denograd_jax.refine` takes them.

        Raises:
            DenogradError: For data that does not fit the model, or arguments that cannot be used.
        """
        refuse_unknown(moves)
        reading = self.read(data, target)
        return refine_reading(self, reading, make_plan(reading, **moves))

    def read(self, data: Any, target: Any = None) -> Reading:
        """Data as this model sees it; arguments and errors are those of `refine`."""
        return read(self.schema, self._open(data, target), self.design)

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write a backbone trained here, its columns and scaling into a folder.

        The folder holds arrays and JSON, no pickles, and is made whole or not at all.

        Args:
            folder: Its name.
            overwrite: Whether to replace a fitted model that was saved there.

        Raises:
            FileError: If the folder exists or cannot be written.
            UnsupportedError: If the model was given: its own library saves it.
        """
        from denograd_jax._frames._saved import save_fitted

        save_fitted(self, folder, overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Fitted":
        """Read what `save` wrote.

        Raises:
            FileError: If it is missing, damaged, or of a newer version.
        """
        from denograd_jax._frames._saved import load_fitted

        return load_fitted(folder)

    def __repr__(self) -> str:
        kind = "rows" if self.design.layout is None else f"windows of {self.design.layout.length}"
        return (
            f"<Fitted: {self.settings['model']}, for {kind} of {len(self.schema.labels)} columns>"
        )

    def _open(self, data: Any, target: Any) -> Opened:
        labels = self.design.targets
        if target is None and self.design.apart:
            raise UnsupportedError(
                "give the values of the target beside the data, as when the model was fitted."
            )
        if target is None and labels:
            target = labels[0] if len(labels) == 1 else list(labels)
        opened = open_container(own(data), own(target))
        if (opened.targets, opened.apart) != (labels, self.design.apart):
            where = "beside the data" if self.design.apart else "a column of the data"
            raise ColumnError(
                f"the target is {listed(opened.targets) or 'missing'}, but the model was fitted to "
                f"{listed(labels) or 'none'}, {where}: give the same."
            )
        return opened


def fit(
    data: Any,
    target: Any = None,
    *,
    classes: bool | None = None,
    model: Any = None,
    window: int | None = None,
    horizon: int = 1,
    stride: int = 1,
    time: Hashable | None = None,
    groups: Any = None,
    frozen: Any = (),
    irregular: Irregular | None = None,
    scale: Scale = "all",
    training: TrainingName = "plain",
    max_epochs: int | None = None,
    folds: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Fitted:
    """Learn columns, scaling and a model from data, to refine other data with it later.

    `fit(data, ...).refine(data, ...)` is `refine(data, ...)`.

    Args:
        data: As `refine` takes it, and so all other arguments.
        target: What the others explain.
        classes: Whether the target is of classes.
        model: A trained model, or the name of a backbone to train.
        window: Steps that the model looks back on; makes the data a series.
        horizon: Steps from the window's last to its target.
        stride: Steps from one window to the next.
        time: Column or level of time stamps.
        groups: Column(s) or level(s) that tell the series of a panel apart.
        frozen: Column(s) that inform the model but are not moved.
        irregular: "segment" to let no window cross a time step that differs by more than 10 % from
            the usual one.
        scale: "group" to scale columns in each group.
        training: How a backbone is trained: "plain", "ido" or "rlap".
        max_epochs: Most training epochs of the backbone.
        folds: Parts of the data, for each of which a backbone is trained without it.
        seed: Of the backbone's initial weights and the order of its batches.
        progress: Called as training goes on.

    Returns:
        `Fitted`, with `.refine(data)`, `.save(folder)`.

    Raises:
        DenogradError: For data, columns or models that cannot be used; the message says why.

    Example:
        >>> import numpy as np
        >>> yesterday, today = np.random.default_rng(0).normal(size=(2, 200, 3)).cumsum(axis=1)
        >>> fitted = fit(yesterday, window=8, max_epochs=2)
        >>> fitted.refine(today).data.shape
        (200, 3)
    """
    refuse_fractions({"horizon": horizon, "stride": stride, "seed": seed})
    refuse_fractions({"window": window, "max_epochs": max_epochs}, optional=True)
    refuse_progress(progress)
    opened = open_container(data, target)
    design = read_design(
        opened,
        time=time,
        groups=groups,
        frozen=frozen,
        window=window,
        horizon=horizon,
        stride=stride,
        irregular=irregular,
        scale=scale,
        folds=folds,
        classes=classes,
    )
    schema = learn(opened, design)
    reading = read(schema, opened, design)
    return fit_reading(
        schema, reading, model, max_epochs, seed, progress, automatic=True, training=training
    )


def fit_reading(
    schema: Schema,
    reading: Reading,
    model: Any,
    max_epochs: int | None,
    seed: int,
    progress: Progress | None,
    *,
    automatic: bool = False,
    noise: NDArray[np.float64] | None = None,
    training: TrainingName = "plain",
) -> Fitted:
    """Train a backbone on a reading, or see the user's model in its units.

    Args:
        schema: Columns and scaling.
        reading: The data.
        model: A model, or the name of a backbone to train.
        max_epochs: Most training epochs.
        seed: Of the training.
        progress: Called as it goes on.
        automatic: Whether it is for the rule "auto", which needs to know the noise.
        noise: Its standard deviation where it is known, in standardised units, `(N, n)` or
            `(1, n)`.
        training: How a backbone is trained.
    """
    refuse_training(training, model, schema)
    rows = reading.timeline is None
    cross_fitted = reading.design.folds is not None
    if cross_fitted:
        _refuse_folds(model, schema, training)
    if schema.classes is not None and _is_mixture(model):
        raise BackboneError(
            "a mixture explains numbers, not classes: choose another backbone, such as "
            f"{', '.join(backbones.names('rows'))}."
        )
    if model is None and schema.classes is not None:
        model = backbones.names("rows")[0]
    trains = max_epochs is not None or cross_fitted or training != "plain"
    if model is None and automatic and not trains:
        model = "mixture" if rows else "linear"
    if rows and (automatic or _is_mixture(model)):
        return _fit_rows(schema, reading, model, max_epochs, seed, progress, noise, training)
    fitted = _fit_model(schema, reading, model, max_epochs, seed, progress, training)
    if not automatic and (fitted.backbone != "linear" or rows):
        return fitted
    found = find_noise(fitted.model, reading)
    return _with_noise(fitted, found, reading)


def _refuse_folds(model: Any, schema: Schema, training: TrainingName) -> None:
    if training != "plain":
        raise UnsupportedError(f'folds are for plain training, not for "{training}".')
    if schema.classes is not None:
        raise UnsupportedError(
            "folds are for numeric targets: leave them out. find_noisy judges labels by models "
            "that have not seen them."
        )
    if model is not None and not isinstance(model, str):
        raise UnsupportedError(
            "folds are for backbones trained here: a model that is given is one, and has seen what "
            "it was trained on. Leave folds out, or name a backbone."
        )
    if _is_mixture(model):
        raise UnsupportedError(
            "folds are for backbones trained by their predictions: a mixture is judged by rows "
            "that it was not fitted to anyway. Leave folds out."
        )


def _is_mixture(model: Any) -> bool:
    return isinstance(model, str) and model == "mixture"


def _with_noise(fitted: Fitted, found: FoundNoise | RowDensity, reading: Reading) -> Fitted:
    settings = {**fitted.settings, "noise": found.told(reading.table.movable)}
    return dataclasses.replace(fitted, noise=found, settings=settings)


def _fit_rows(
    schema: Schema,
    reading: Reading,
    model: Any,
    max_epochs: int | None,
    seed: int,
    progress: Progress | None,
    noise: NDArray[np.float64] | None,
    training: TrainingName,
) -> Fitted:
    """A density of the rows with their noise; the model too, unless another is asked for."""
    problem = reading.pose(np.broadcast_to(reading.table.movable, reading.table.values.shape))
    logger.info("fitting a mixture to %d rows", len(reading.table.values))
    density = find_row_density(reading, problem, noise, seed)
    if _is_mixture(model):
        explained = tuple(schema.labels[j] for j in problem.targets)
        settings = {
            "model": "mixture of Gaussians, fitted to this data",
            "components": len(density.weights),
        }
        found = density.regression()
        shape = problem.instance_shape
        fitted = Fitted(schema, reading.design, found, explained, "mixture", shape, seed, settings)
        return _with_noise(fitted, density, reading)
    fitted = _fit_model(schema, reading, model, max_epochs, seed, progress, training)
    if schema.classes is None:
        movable = np.broadcast_to(reading.table.movable, reading.table.values.shape)
        cleaned = density.without_spikes(reading, movable) if density.spikes.any() else reading
        density = density.with_residuals(fitted.model, problem, cleaned)
    return _with_noise(fitted, density, reading)


def _fit_model(
    schema: Schema,
    reading: Reading,
    model: Any,
    max_epochs: int | None,
    seed: int,
    progress: Progress | None,
    training: TrainingName,
) -> Fitted:
    movable = np.broadcast_to(reading.table.movable, reading.table.values.shape)
    problem = reading.pose(movable)
    explained = tuple(schema.labels[j] for j in problem.targets)
    explained = explained if schema.classes is None else (schema.classes.label,)
    shape = problem.instance_shape
    if model is not None and not isinstance(model, str):
        settings: dict[str, object] = {"model": f"given: {type(model).__name__}"}
        frozen = in_user_units(model, reading.table, problem, schema.classes)
        return Fitted(schema, reading.design, frozen, explained, None, shape, None, settings)
    name = "mlp" if model is None else model
    logger.info("training %s on %d rows", name, len(reading.table.values))
    if reading.design.folds is not None:
        return _cross_fit(schema, reading, problem, name, max_epochs, seed, progress)
    if name == "linear" and schema.classes is None:
        linear = fit_linear_backbone(problem, prepare(problem.layout, *problem.arrays))
        settings = {"model": "linear backbone, fitted to this data by least squares"}
        if reading.timeline is not None:
            settings["steps with a weight"] = linear.order
        return Fitted(schema, reading.design, linear.model, explained, name, shape, seed, settings)
    trained = train_backbone(
        name,
        problem,
        prepare(problem.layout, *problem.arrays),
        training=training,
        seed=seed,
        max_epochs=max_epochs,
        progress=None if progress is None else functools.partial(progress, "train"),
    )
    settings = {
        "model": f"{name} backbone, trained on this data",
        "epochs": f"{trained.epochs}, best {trained.best_epoch + 1}",
        "validation loss": round(float(trained.validation_loss[trained.best_epoch]), 4),
    }
    if training != "plain":
        settings["training"] = training
    if trained.p_clean is not None:
        settings["likely noisy"] = f"{1 - trained.p_clean.mean():.1%} of what it was trained on"
    return Fitted(
        schema,
        reading.design,
        trained.model,
        explained,
        name,
        shape,
        seed,
        settings,
        interrupted=trained.interrupted,
    )


def _cross_fit(
    schema: Schema,
    reading: Reading,
    problem: Problem,
    name: str,
    max_epochs: int | None,
    seed: int,
    progress: Progress | None,
) -> Fitted:
    """A backbone for each fold, trained without it."""
    folds = reading.design.folds
    assert folds is not None
    trained = cross_fit_backbone(
        name,
        problem,
        prepare(problem.layout, *problem.arrays),
        folds.count,
        seed=seed,
        max_epochs=max_epochs,
        progress=None if progress is None else functools.partial(progress, "train"),
    )
    settings: dict[str, object] = {
        "model": f"{folds.count} {name} backbones, each trained without a part of this data",
        "folds": folds.count,
    }
    if trained.epochs:
        settings["epochs"] = trained.epochs
        settings["validation loss"] = round(float(trained.validation_loss.mean()), 4)
    return Fitted(
        schema,
        reading.design,
        trained.model,
        tuple(schema.labels[j] for j in problem.targets),
        name,
        (*problem.instance_shape[:-1], problem.instance_shape[-1] - 1),
        seed,
        settings,
        interrupted=trained.interrupted,
    )


def refine_reading(
    fitted: Fitted,
    reading: Reading,
    plan: Plan,
    history: NDArray[np.bool_] | None = None,
    notes: Sequence[str] = (),
) -> Refinement:
    """Carry out a plan.

    Args:
        fitted: The model.
        reading: The data.
        plan: What to do with it.
        history: Rows that are looked back on and stay as they are, `(N,)`.
        notes: What a user should know besides.
    """
    movable = plan.movable if history is None else plan.movable & ~history[:, None]
    outcome = solve(fitted.model, reading, plan, movable, fitted.noise)
    return record(fitted, reading, plan, outcome, notes)
