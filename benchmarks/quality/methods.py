"""What is compared; a new method is one more line of METHODS."""

from . import kalman, neighbours, ours, package, smoothers
from .registry import Method, column_by_column, on_scaled_columns

__all__ = ["METHODS", "Method"]

SERIES = ("series",)
ROWS = ("rows",)
FEW = 11  # columns, the target among them: those of a quadratic surface grow with their square


def nothing(noisy, problem):
    """Leaves the data alone: every ratio must be 1."""
    return noisy.copy()


def smoother(name, smooth, *needs, **more):
    """A practitioner's method for series, column by column."""
    return Method(name, "practice", column_by_column(smooth), SERIES, needs=needs, **more)


def refinement(name, repair, **more):
    """One of ours; it changes with the library's code."""
    return Method(name, "ours", repair, version=f"1 {ours.digest()}", **more)


def black_box(name, repair):
    """The PyTorch package; the weights are ours, so that it changes with the library's code."""
    version = f"1 {ours.digest()}"
    return Method(name, "package", repair, version=version, needs=("torch",), quick=False)


def by_training():
    """By a perceptron, as it is trained; "refine unit_step" is that of plain training."""
    for training in ("plain", "ido", "rlap"):
        yield refinement(f"refine mlp {training}", ours.perceptron(training, "auto"), quick=False)
    for training in ("ido", "rlap"):
        repair = ours.perceptron(training, "unit_step")
        yield refinement(f"refine unit_step {training}", repair, quick=False)


def registered():
    """All methods, in the order of the tables."""
    return [
        Method("nothing", "control", nothing),
        refinement("refine", ours.auto),
        refinement("refine told", ours.auto_told, told=True),
        refinement("refine unit_step", ours.unit_step),
        refinement("refine gauss_newton", ours.gauss_newton),
        refinement("refine unit_step told", ours.told_the_noise, told=True),
        *by_training(),
        black_box("denograd 1.1.0", package.version_1),
        black_box("denograd 2.0.0", package.version_2),
        smoother("moving average", smoothers.moving_average),
        smoother("savitzky-golay", smoothers.savitzky_golay, "scipy"),
        smoother("wavelet", smoothers.wavelet_threshold, "pywt"),
        Method("rts smoother", "practice", on_scaled_columns(kalman.smoothed), SERIES),
        smoother("whittaker", smoothers.whittaker, "scipy"),
        smoother("emd", smoothers.without_first_mode, "PyEMD", quick=False),
        Method(
            "pca",
            "practice",
            on_scaled_columns(neighbours.principal_components),
            needs=("sklearn",),
        ),
        Method(
            "knn smoothing",
            "practice",
            on_scaled_columns(neighbours.neighbour_mean),
            needs=("sklearn",),
        ),
        Method("y out of fold", "practice", neighbours.predicted_target, ROWS, needs=("sklearn",)),
        Method(
            "odr",
            "practice",
            neighbours.orthogonal_distance,
            ROWS,
            needs=("odrpack",),
            most_columns=FEW,
        ),
    ]


METHODS = registered()
