"""`refine`: a noisy table or series in, the same with less noise out."""

import dataclasses
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax._core._run import Status
from denograd_jax._frames._constraints import Bounds
from denograd_jax._frames._containers import Opened, open_container
from denograd_jax._frames._fitted import fit_reading, refine_reading
from denograd_jax._frames._planning import Progress, RuleName, make_plan, refuse_fractions
from denograd_jax._frames._reading import Design, Scale, learn, own, read, read_design
from denograd_jax._frames._refinement import Refinement
from denograd_jax._frames._timeline import Irregular, group_codes, time_column, time_stamps
from denograd_jax.errors import ShapeError, UnsupportedError
from denograd_jax.robust._policies import TrainingName
from denograd_jax.rules import Rule

__all__ = ["refine"]


def refine(
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
    irregular: Irregular | None = None,
    scale: Scale = "all",
    frozen: Any = (),
    frozen_rows: Any = None,
    impute: bool = False,
    bounds: Bounds | None = None,
    non_negative: Any = (),
    integer: Any = (),
    max_change: Any = None,
    noise_scale: Any = None,
    soft_labels: bool = False,
    rule: RuleName | Rule | None = None,
    step_size: float | None = None,
    tolerance: float | None = None,
    max_steps: int | None = None,
    causal: bool = False,
    lag: int = 0,
    warm_up: int | None = None,
    training: TrainingName = "plain",
    max_epochs: int | None = None,
    folds: int | None = None,
    seed: int = 0,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Refinement:
    """Reduce the noise of a table, or with `window` of a series, by a frozen model's gradients.

    Columns are standardised, a backbone is trained unless a model is given, every row or window
    is moved toward what the model has learnt, and the result comes back in the user's units, in
    the container given. NaN stays NaN unless `impute`; text, categories, booleans, 0/1 indicators
    and dates stay as they are. The caller's data and model are not changed. Ctrl-C ends it with
    what was reached by then.

    A target of classes stays as it is too: what moves are the features. By the rule "auto" that is
    for their own noise, and neither the label nor the classifier has a say in it; by "unit_step"
    toward where the classifier finds the label likelier, also a wrong one, and rows without a
    label are left alone. Which labels are wrong `find_noisy` tells.

    Look-ahead: for rows no; for series yes, a value is corrected by windows that reach past it;
    with `causal` no, or `lag` rows. Refine training data only, never the rows that you test on.

    Args:
        data: DataFrame or Series of pandas or polars; NumPy array `(rows, columns)` or `(rows,)`;
            xarray Dataset or DataArray; or a list or dict of those, a panel of series.
        target: Column(s) that the others explain; or an array or Series of as many rows. Rows
            need one. A series without one predicts every movable column from the window before.
        classes: Whether the target is of classes: text, categories, booleans or whole numbers, in
            one column, of rows. Unless given that is told by its type: whole numbers are quantities
            then, and text of which half the values or more differ, or are numbers, is refused.
        model: What to trust: the name of a backbone to train (`backbones.names`), unless given an
            "mlp", for the rule "auto" "linear" of a series and "mixture" of rows; or a trained
            model (whatever `as_model` takes), which gets the numeric columns other than the
            target, for a series all numeric columns, in the user's units and the data's order; but
            integers that number the rows, or are called `id`, only if they are named in `frozen`.
            Of classes it gives a logit for each, in order (of a categorical its own, else sorted).
        window: Steps that the model looks back on; makes the data a series.
        horizon: Steps from the window's last to its target.
        stride: Steps from one window to the next, counted from the first row of each series.
        time: Column, or named level of the index, of time stamps. Not moved, unseen by the model.
            For a series they are checked for order, and windows do not cross gaps, which are steps
            longer than 1.5 usual ones. Dates in an index that is not named here are checked for
            order, but windows cross their gaps.
        groups: Column(s), or level(s) of the index, that tell the series of a panel apart. Windows
            do not cross them.
        irregular: "segment" lets no window cross a time step that differs by more than 10 % from
            the usual one; without it, those that are no gaps are refused.
        scale: "group" standardises columns in each group, "all" over all rows.
        frozen: Column(s) that inform the model but are not moved.
        frozen_rows: Booleans, one per row: rows that inform the model but are not moved.
        impute: Whether missing numbers are filled with the refined value.
        bounds: Least and largest value of columns, `{"age": (0, 120), "price": (0, None)}`, in the
            user's units. They hold exactly; values given outside of them are moved to them.
        non_negative: Column(s) that are bounded by 0; True for all.
        integer: Column(s) whose values are whole numbers, in which a correction shows once it
            amounts to half a unit; True for all of an integer type. Other integer columns that
            moved come back as floats.
        max_change: Largest change of a cell, in standard deviations of its column: one number, or
            one per column by name. Bounds go first.
        noise_scale: Standard deviation of the noise where it is known, in the user's units: one
            number; one per column by name (a mapping, or a Series such as `0.1 * frame.std()`); or
            one per cell (array or DataFrame). Cells move in proportion to its square, 0 does not
            move, and `step_size` is in units of it.
        soft_labels: Whether labels of classes move too, on the simplex, with the features: see
            `.probabilities` of what is returned. The column of labels stays as it is.
        rule: How instances move; a name, or a rule from `denograd_jax.rules`. With "auto" each
            column's noise is found in the data (unless `noise_scale` tells it), and one step takes
            off what is expected of it. It is the default, unless `step_size`, `tolerance`,
            `max_steps`, `impute` or `soft_labels` ask for "unit_step", the published rule. Of
            classes "gauss_newton" wants `soft_labels`.
        step_size: The rule's step size, in standard deviations (`unit_step`) or as a fraction.
        tolerance: Residual, in standard deviations of the target, that is left as it is; of
            classes 1 less the probability of the label.
        max_steps: Most refinement steps.
        causal: Whether a value may depend on no later row than the next `lag`. Model and scaling
            then come from the `warm_up` alone, whose rows are not refined.
        lag: Rows to wait before a row is judged; the last ones are judged by what is there.
        warm_up: Rows (of a panel: distinct times, or rows of each series) that a causal refinement
            learns from; 20 times a window with its target unless given, and at least 200.
        training: How a backbone is trained: "plain"; or, where some rows (windows) may be far off,
            or labels wrong, "ido", which weighs them by how often models miss them while they learn
            (of numbers five models, each of the others; missing targets are left out), or "rlap",
            which prunes and tunes an "mlp" by what noise stirs in it (no gain seen). Given without
            a model it is an "mlp".
        max_epochs: Most training epochs of the backbone; given without a model it is an "mlp".
        folds: Cross-fitting: the data are cut in this many parts, for each of which a backbone is
            trained without it, and moves it. Rows go by their values, a series by blocks in time,
            with as much left out around each as windows reach. A model trained on what it refines
            takes some of the noise for signal; the more weights it has, the more. Training and
            each step take about as many times longer. Given without a model it is an "mlp".
        seed: Of the backbone's initial weights and the order of its batches.
        dry_run: Whether to leave the data as it is, and only tell what would change.
        progress: Called as training and refinement go on.

    Returns:
        `Refinement`: `.data`, `.changes`, `.summary()`, `.report(path)`, `.save(folder)`.

    Raises:
        DenogradError: For data, columns or models that cannot be used; the message says why.

    Example:
        >>> import numpy as np
        >>> t = np.arange(300.0)
        >>> noisy = np.sin(t / 8) + 0.2 * np.random.default_rng(0).normal(size=300)
        >>> refine(noisy, window=16, max_epochs=3).data.shape
        (300,)
    """
    refuse_fractions({"horizon": horizon, "stride": stride, "seed": seed})
    optional = {"window": window, "max_epochs": max_epochs, "warm_up": warm_up}
    refuse_fractions(optional, optional=True)
    opened = open_container(own(data), own(target))
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
    if causal and folds is not None:
        raise UnsupportedError(
            "folds have no meaning with causal=True: its model sees no row that it refines."
        )
    history = _history(opened, design, warm_up, causal=causal)
    learnt_from = (
        opened if history is None else dataclasses.replace(opened, frame=opened.frame[history])
    )
    schema = learn(learnt_from, design)
    reading = read(schema, opened, design)
    plan = make_plan(
        reading,
        rule=rule,
        step_size=step_size,
        tolerance=tolerance,
        max_steps=max_steps,
        impute=impute,
        frozen_rows=frozen_rows,
        bounds=bounds,
        non_negative=non_negative,
        integer=integer,
        max_change=max_change,
        noise_scale=noise_scale,
        soft_labels=soft_labels,
        causal=causal,
        lag=lag,
        dry_run=dry_run,
        progress=progress,
    )
    learnt = reading if history is None else read(schema, learnt_from, design)
    fitted = fit_reading(
        schema,
        learnt,
        model,
        max_epochs,
        seed,
        progress,
        automatic=plan.automatic,
        noise=plan.noise if history is None else None,
        training=training,
    )
    notes = []
    if history is not None:
        notes.append(f"the first {history.sum():,} rows taught the model and were not refined")
    if fitted.interrupted:
        plan = dataclasses.replace(plan, max_steps=0)
        notes.append("the training was interrupted, and nothing was refined")
    refinement = refine_reading(fitted, reading, plan, history, notes)
    if fitted.interrupted:
        refinement = dataclasses.replace(refinement, status=Status.interrupted)
    return refinement


def _history(
    opened: Opened, design: Design, warm_up: int | None, *, causal: bool
) -> NDArray[np.bool_] | None:
    """The rows that a causal refinement learns from, `(N,)`; None for any other.

    Their number depends on no row behind them, else a longer series would be another one.
    """
    if not causal or design.layout is None:
        if warm_up is not None:
            raise UnsupportedError("warm_up is for a causal refinement: set causal=True as well.")
        return None
    length = max(20 * design.layout.span, 200) if warm_up is None else warm_up
    frame = opened.frame
    if design.groups and design.time is not None:
        column, called = time_column(frame, design.time)
        assert column is not None
        stamps = time_stamps(column, called)
        history = np.isin(stamps, np.unique(stamps)[:length])
    elif design.groups:
        codes, _ = group_codes(frame, design.groups)
        within = pd.Series(0, range(len(frame))).groupby(codes).cumcount()
        history = (within < length).to_numpy()
    else:
        history = np.arange(len(frame)) < length
    if history.all():
        raise ShapeError(
            f"all {len(frame)} rows are warm-up ({length} of each series): a causal refinement "
            "learns from the first rows and refines those behind them. Set a shorter warm_up=, or "
            "fit on earlier data: fit(earlier, ...).refine(data, causal=True)."
        )
    return history
