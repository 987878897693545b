"""A transformer that repairs the table that passes through it."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from denograd_jax._frames._constraints import Bounds
from denograd_jax._frames._fitted import fit
from denograd_jax._frames._planning import Moves, RuleName
from denograd_jax._frames._reading import Scale
from denograd_jax._frames._timeline import Irregular
from denograd_jax.errors import UnsupportedError
from denograd_jax.robust._policies import TrainingName
from denograd_jax.rules import Rule
from denograd_jax.sklearn._every_column import (
    fit_every_column,
    refine_every_column,
    refine_or_stop,
)
from denograd_jax.sklearn._inputs import read_table, seed_of
from denograd_jax.sklearn._pickling import with_functions, without_functions

__all__ = ["DataRefiner"]


class DataRefiner(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Reduces the noise of a table, or with `window` of a series: `denograd_jax.fit` and `refine`.

    `fit` learns columns, scaling and a frozen model; `transform` refines any table of the same
    columns with them, and learns nothing from it. `y` is not looked at: a target stands in X.

    Rows without a target are refined column by column: each is explained by all others, with a
    model of its own, and corrected by that one alone. This takes as many models as there are
    columns that may move.

    In a pipeline that predicts, `transform` refines the rows to be predicted as well. To refine
    training data only, see `RefineThenFit`.

    Look-ahead: rows no, each is refined by itself; series yes, unless `causal`, and then none if X
    begins behind what was fitted.

    Args:
        target: Column(s) of X that the others explain, by name, or by position in an array.
        window: Steps that the model looks back on; makes X a series, its rows in order of time.
        model: Name of a backbone to train (`backbones.names`), or a trained model that explains
            `target`, as `denograd_jax.refine` takes it. An estimator of scikit-learn's goes in as
            `FrozenEstimator(estimator)`, since `clone` forgets what others have learnt.
        horizon: See `denograd_jax.refine`, as for all others without a description.
        stride: See there.
        time: Column of time stamps.
        groups: Column(s) that tell the series of a panel apart.
        irregular: See there.
        scale: See there.
        frozen: Column(s) that inform the model but are not moved.
        impute: Whether missing numbers are filled with the refined value; wants `target` or
            `window`. By default NaN stays NaN.
        bounds: Least and largest value of columns.
        non_negative: Column(s) that are bounded by 0; True for all.
        integer: Column(s) whose values are whole numbers.
        max_change: Largest change of a cell, in standard deviations.
        noise_scale: Standard deviation of the noise: one number, or one per column by name.
        rule: How instances move.
        step_size: See there.
        tolerance: See there.
        max_steps: Most refinement steps.
        causal: Whether a value may depend on no later row of X than the next `lag`.
        lag: See there.
        training: How a backbone is trained, see `denograd_jax.refine`: "plain", "ido" or "rlap".
        max_epochs: Most training epochs of a backbone.
        random_state: Seed of the training; None for another one each time.

    Attributes:
        fitted_: Tuple of `Fitted`: one, or without target and window one per column that may move.
        n_features_in_: Number of columns.
        feature_names_in_: Their names, where X is a data frame and they are text.

    Example:
        >>> import numpy as np
        >>> a, noise = np.random.default_rng(0).normal(size=(2, 200))
        >>> refiner = DataRefiner(max_epochs=2).set_output(transform="pandas")
        >>> refiner.fit_transform(np.stack([a, a + 0.3 * noise], axis=1)).shape
        (200, 2)
    """

    def __init__(
        self,
        target: Any = None,
        *,
        window: int | None = None,
        model: Any = None,
        horizon: int = 1,
        stride: int = 1,
        time: Any = None,
        groups: Any = None,
        irregular: Irregular | None = None,
        scale: Scale = "all",
        frozen: Any = (),
        impute: bool = False,
        bounds: Bounds | None = None,
        non_negative: Any = (),
        integer: Any = (),
        max_change: Any = None,
        noise_scale: Any = None,
        rule: RuleName | Rule | None = None,
        step_size: float | None = None,
        tolerance: float | None = None,
        max_steps: int | None = None,
        causal: bool = False,
        lag: int = 0,
        training: TrainingName = "plain",
        max_epochs: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.target = target
        self.window = window
        self.model = model
        self.horizon = horizon
        self.stride = stride
        self.time = time
        self.groups = groups
        self.irregular = irregular
        self.scale = scale
        self.frozen = frozen
        self.impute = impute
        self.bounds = bounds
        self.non_negative = non_negative
        self.integer = integer
        self.max_change = max_change
        self.noise_scale = noise_scale
        self.rule = rule
        self.step_size = step_size
        self.tolerance = tolerance
        self.max_steps = max_steps
        self.causal = causal
        self.lag = lag
        self.training = training
        self.max_epochs = max_epochs
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn columns, scaling and model(s).

        Args:
            X: Data frame of pandas or polars, or array-like `(rows, columns)` of numbers.
            y: Not looked at.

        Returns:
            The estimator.

        Raises:
            ValueError: Data that scikit-learn refuses, or a `DenogradError` that says what cannot
                be used.
            TypeError: Likewise.
        """
        X = read_table(self, X, reset=True, min_features=1 if self.window is not None else 2)
        options: dict[str, Any] = {
            "model": self.model,
            "window": self.window,
            "horizon": self.horizon,
            "stride": self.stride,
            "time": self.time,
            "groups": self.groups,
            "irregular": self.irregular,
            "scale": self.scale,
            "frozen": self.frozen,
            "training": self.training,
            "max_epochs": self.max_epochs,
            "seed": seed_of(self.random_state),
        }
        if self._every_column:
            self._refuse_without_target()
            self.fitted_ = fit_every_column(X, **options)
        else:
            self.fitted_ = (fit(X, self.target, **options),)
        if any(fitted.interrupted for fitted in self.fitted_):
            raise KeyboardInterrupt
        return self

    def transform(self, X: Any) -> Any:
        """Refine a table with the columns, scaling and model(s) of `fit`.

        Args:
            X: As in `fit`; of a series at least as many rows as a window and its target need.

        Returns:
            The same kind of frame, of the same shape; an array of floats, `(rows, columns)`, for
            anything else; what `set_output` asked for.

        Raises:
            NotFittedError: Before `fit`.
            ValueError: Data that scikit-learn refuses, or a `DenogradError` that says why.
            TypeError: Likewise.
        """
        check_is_fitted(self)
        X = read_table(self, X, reset=False)
        moves: Moves = {
            "rule": self.rule,
            "step_size": self.step_size,
            "tolerance": self.tolerance,
            "max_steps": self.max_steps,
            "impute": self.impute,
            "bounds": self.bounds,
            "non_negative": self.non_negative,
            "integer": self.integer,
            "max_change": self.max_change,
            "noise_scale": self.noise_scale,
            "causal": self.causal,
            "lag": self.lag,
        }
        if self._every_column:
            refined = refine_every_column(self.fitted_, X, **moves)
        else:
            refined = refine_or_stop(self.fitted_[0], X, **moves)
        whole = isinstance(refined, np.ndarray) and refined.dtype.kind in "iu"
        return refined.astype(np.float64) if whole else refined

    @property
    def _every_column(self) -> bool:
        return self.target is None and self.window is None

    def _refuse_without_target(self) -> None:
        if self.model is not None and not isinstance(self.model, str):
            raise UnsupportedError(
                "a model was given, but not which column of X it explains: name it with target=, "
                "or give window= if the rows are a time series."
            )
        if self.impute:
            raise UnsupportedError(
                "impute wants target= or window=: without, each column is corrected where it has "
                "a value."
            )

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "fitted_" in state:
            state["fitted_"] = tuple(map(without_functions, state["fitted_"]))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "fitted_" in state:
            self.fitted_ = tuple(with_functions(f, self.model) for f in state["fitted_"])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
