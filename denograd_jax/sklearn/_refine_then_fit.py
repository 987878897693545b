"""A regressor that learns from refined data and predicts from data as it is."""

from typing import Any, Self

import sklearn
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from denograd_jax._core._run import Status
from denograd_jax._frames._constraints import Bounds
from denograd_jax._frames._planning import RuleName
from denograd_jax._frames._refine import refine
from denograd_jax.robust._policies import TrainingName
from denograd_jax.rules import Rule
from denograd_jax.sklearn._inputs import read_table, seed_of

__all__ = ["RefineThenFit"]


class RefineThenFit(MetaEstimatorMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Fits a regressor on X and y as `denograd_jax.refine` repairs them.

    What is to be predicted stays as it is, so that scores by cross-validation are honest: the rows
    tested on are neither refined nor seen in refining the others.

    Look-ahead: no row but those of `fit` is refined; among these as in `denograd_jax.refine`.

    Args:
        regressor: Fitted as a clone; any regressor of scikit-learn's interface.
        window: Steps that the refining model looks back on; makes the rows of X and y a series in
            order of time, as folds of `TimeSeriesSplit` are.
        model: What to trust, as in `denograd_jax.refine`. A trained estimator of scikit-learn's
            goes in as `FrozenEstimator(estimator)`, since `clone` forgets what others have learnt.
        frozen: Column(s) of X that inform the model but are not moved.
        bounds: See `denograd_jax.refine`, as for all others without a description. Columns of an
            array are called by their position, an array y is "target".
        non_negative: See there.
        integer: See there.
        max_change: See there.
        noise_scale: One number, or one per column by name.
        rule: See there.
        step_size: See there.
        tolerance: See there.
        max_steps: Most refinement steps.
        training: How a backbone is trained, see `denograd_jax.refine`: "plain", "ido" or "rlap".
        max_epochs: Most training epochs of the refining backbone.
        random_state: Seed of the backbone's training; None for another one each time.

    Attributes:
        regressor_: The fitted clone.
        refinement_: The `Refinement` of the training data: what was moved, with its report. Holds
            that data, and is left behind by pickles and copies.
        n_features_in_: Number of columns of X.
        feature_names_in_: Their names, where X is a data frame and they are text.

    Example:
        >>> import numpy as np
        >>> from sklearn.linear_model import Ridge
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> RefineThenFit(Ridge(), max_epochs=2).fit(X, X.sum(axis=1)).predict(X).shape
        (200,)
    """

    def __init__(
        self,
        regressor: Any,
        *,
        window: int | None = None,
        model: Any = None,
        frozen: Any = (),
        bounds: Bounds | None = None,
        non_negative: Any = (),
        integer: Any = (),
        max_change: Any = None,
        noise_scale: Any = None,
        rule: RuleName | Rule | None = None,
        step_size: float | None = None,
        tolerance: float | None = None,
        max_steps: int | None = None,
        training: TrainingName = "plain",
        max_epochs: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.regressor = regressor
        self.window = window
        self.model = model
        self.frozen = frozen
        self.bounds = bounds
        self.non_negative = non_negative
        self.integer = integer
        self.max_change = max_change
        self.noise_scale = noise_scale
        self.rule = rule
        self.step_size = step_size
        self.tolerance = tolerance
        self.max_steps = max_steps
        self.training = training
        self.max_epochs = max_epochs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Refine X and y, and fit the regressor on what comes out.

        Args:
            X: Data frame of pandas or polars, or array-like `(rows, columns)` of numbers.
            y: Array-like of numbers, `(rows,)` or `(rows, targets)`; belongs to X row by row,
                whatever its index.
            **fit_params: For the regressor's `fit`, `sample_weight` say; the refinement does not
                know of them. With scikit-learn's metadata routing, those that it requests.

        Returns:
            The estimator.

        Raises:
            ValueError: Data that scikit-learn refuses, or a `DenogradError` that says what cannot
                be used.
            TypeError: Likewise.
        """
        y = validate_data(self, y=y, multi_output=True, y_numeric=True)
        X = read_table(self, X, reset=True)
        check_consistent_length(X, y)
        if sklearn.get_config()["enable_metadata_routing"]:
            fit_params = process_routing(self, "fit", **fit_params)["regressor"]["fit"]
        refinement = refine(
            X,
            y,
            window=self.window,
            model=self.model,
            frozen=self.frozen,
            bounds=self.bounds,
            non_negative=self.non_negative,
            integer=self.integer,
            max_change=self.max_change,
            noise_scale=self.noise_scale,
            rule=self.rule,
            step_size=self.step_size,
            tolerance=self.tolerance,
            max_steps=self.max_steps,
            training=self.training,
            max_epochs=self.max_epochs,
            seed=seed_of(self.random_state),
        )
        if refinement.status == Status.interrupted:  # ends a cross-validation as a whole
            raise KeyboardInterrupt
        self.refinement_ = refinement
        self.regressor_ = clone(self.regressor)
        self.regressor_.fit(refinement.data, refinement.target, **fit_params)
        return self

    def predict(self, X: Any) -> Any:
        """What the regressor predicts of X as it is.

        Args:
            X: As in `fit`; passed on untouched.

        Returns:
            Predictions, `(rows,)` or `(rows, targets)`.

        Raises:
            NotFittedError: Before `fit`.
        """
        check_is_fitted(self)
        return self.regressor_.predict(X)

    def get_metadata_routing(self) -> MetadataRouter:
        """Which metadata go to the regressor's `fit`, for scikit-learn's metadata routing."""
        to_fit = MethodMapping().add(caller="fit", callee="fit")
        return MetadataRouter(owner=self).add(regressor=self.regressor, method_mapping=to_fit)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("refinement_", None)
        return state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        of_regressor = get_tags(self.regressor)
        tags.input_tags.allow_nan = of_regressor.input_tags.allow_nan
        tags.target_tags.multi_output = of_regressor.target_tags.multi_output
        tags.target_tags.single_output = of_regressor.target_tags.single_output
        tags.regressor_tags.poor_score = of_regressor.regressor_tags.poor_score
        return tags
