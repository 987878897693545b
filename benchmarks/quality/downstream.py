"""Models that others train on the data: what refining does for them."""

import numpy as np

from .problems import DataSet

LAGS = 4
"""Last steps from which the next value of a series is predicted."""


def errors(data: DataSet, train) -> dict[str, float]:
    """Root mean square error on the clean held-out rows, by model, in units of the target.

    Args:
        data: Its `test` is predicted: rows from their other numbers, the target of a series one
            step ahead from all channels at the last few steps.
        train: What the models learn from.
    """
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = examples(data, train)
    test_x, test_y = examples(data, data.test)
    models = {"ridge": Ridge(), "knn": KNeighborsRegressor(7)}
    found = {}
    for name, model in models.items():
        predicted = make_pipeline(StandardScaler(), model).fit(x, y).predict(test_x)
        found[name] = float(np.sqrt(np.mean((predicted - test_y) ** 2)))
    return found


def examples(data: DataSet, frame):
    """Inputs and targets of a model."""
    numbers = frame.select_dtypes("number")
    y = numbers[data.target].to_numpy()
    if data.kind == "rows":
        return numbers.drop(columns=data.target).to_numpy(), y
    values = numbers.to_numpy()
    views = np.lib.stride_tricks.sliding_window_view(values[:-1], LAGS, axis=0)
    return views.reshape(len(views), -1), y[LAGS:]
