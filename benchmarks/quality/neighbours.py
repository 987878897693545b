"""Methods that look across columns, as a practitioner would pick them up."""

import numpy as np

from .problems import Problem

VARIANCE_KEPT = 0.95
NEIGHBOURS = 10
FOLDS = 5


def principal_components(values):
    """Projection on as many components as hold 95 % of the variance."""
    from sklearn.decomposition import PCA

    if values.shape[1] == 1:
        return values
    model = PCA(VARIANCE_KEPT, svd_solver="full")
    return model.inverse_transform(model.fit_transform(values))


def neighbour_mean(values):
    """Each row becomes the mean of its nearest others, in all columns."""
    from sklearn.neighbors import NearestNeighbors

    # Asked about the rows that it holds, scikit-learn leaves out each row itself.
    near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(values).kneighbors(return_distance=False)
    return values[near].mean(axis=1)


def predicted_target(noisy, problem: Problem):
    """The target replaced by out-of-fold predictions of boosted trees; X stays as it is."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import KFold, cross_val_predict
    from threadpoolctl import threadpool_limits

    x = noisy.select_dtypes("number").drop(columns=problem.target)
    folds = KFold(FOLDS, shuffle=True, random_state=problem.seed)
    model = HistGradientBoostingRegressor(random_state=problem.seed)
    refined = noisy.copy()
    # Its threads wait for each other actively: on busy cores two take a hundred times as long.
    with threadpool_limits(1):
        refined[problem.target] = cross_val_predict(model, x, noisy[problem.target], cv=folds)
    return refined


def orthogonal_distance(noisy, problem: Problem):
    """A quadratic surface fitted with errors in x and y alike; points move onto it (ODRPACK)."""
    import odrpack

    columns = [c for c in problem.columns if c != problem.target]
    values = noisy[[*columns, problem.target]]
    mean, scale = values.mean(), values.std(ddof=0)
    scaled = ((values - mean) / scale).to_numpy()
    x, y = scaled[:, :-1], scaled[:, -1]
    start = np.linalg.lstsq(quadratic_terms(x.T).T, y, rcond=None)[0]
    fit = odrpack.odr_fit(lambda x, beta: beta @ quadratic_terms(x), x.T, y, start)
    moved = np.column_stack([fit.xplusd.T, fit.yest])
    refined = noisy.copy()
    refined[list(values)] = moved * scale.to_numpy() + mean.to_numpy()
    return refined


def quadratic_terms(x):
    """One, the columns, and their products, of `(d, n)`: `(terms, n)`."""
    i, j = np.triu_indices(len(x))
    return np.concatenate([np.ones((1, x.shape[1])), x, x[i] * x[j]])
