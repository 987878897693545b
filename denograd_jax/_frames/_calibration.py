"""`calibrate`: what data say of their noise, and what taking it off should bring."""

import dataclasses
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax._frames._fitted import Fitted, fit
from denograd_jax._frames._planning import Progress
from denograd_jax._frames._reading import Reading, Scale
from denograd_jax._frames._timeline import Irregular
from denograd_jax._frames._uncertainty import Cells, seen_by
from denograd_jax.calibration import error_after
from denograd_jax.errors import UnsupportedError
from denograd_jax.robust._policies import TrainingName

if TYPE_CHECKING:
    from denograd_jax._frames._refinement import Refinement

__all__ = ["Calibration", "calibrate", "calibration_of"]

Floats = NDArray[np.float64]

STRENGTHS = np.linspace(0, 2, 21)


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Calibration:
    """What the rule "auto" goes by, found without clean data.

    Attributes:
        noise: One line per column that may move: the `noise`'s standard deviation in the user's
            units, and in `sigmas` (standard deviations of the column), NaN where nothing tells it
            from the signal; the part of it that should come `off`, from 0 to 1.
        curve: Estimated error of all noisy columns after a correction of each `strength` (1 is what
            "auto" does, 0 leaves the data as it is), in units of what it is before: `error`.
        gain: Part of the error that should come off, from 0 to 1; 0 where no noise was found.
        fitted: The model, which refines this data or other.
    """

    noise: pd.DataFrame
    curve: pd.DataFrame
    gain: float
    fitted: Fitted

    @property
    def settings(self) -> Mapping[str, Any]:
        """Arguments of `refine` that do the same again, with the noise as found here."""
        found = self.noise["noise"].fillna(0.0).to_dict()
        return {"rule": "auto", "noise_scale": found}

    def refine(self, data: Any, target: Any = None, **moves: Any) -> "Refinement":
        """`self.fitted.refine(data, target, rule="auto", ...)`."""
        return self.fitted.refine(data, target, **{"rule": "auto", **moves})

    def __repr__(self) -> str:
        if not self.gain:
            return (
                "<Calibration: no noise that could be told from the signal; leave the data as it "
                "is>"
            )
        lines = self.noise.to_string(float_format=lambda v: f"{v:.3g}", na_rep="not known")
        return f"<Calibration: about {self.gain:.0%} of the noise should come off>\n{lines}"


def calibrate(
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
) -> Calibration:
    """Find out how noisy each column is, and what the rule "auto" would gain, before any refining.

    The error that is left is Stein's unbiased estimate with the density that was fitted; nothing
    clean is needed, and nothing is held out.

    Look-ahead: yes, one judgement of all rows.

    Args:
        data: As `refine` takes it, and so all other arguments.
        target: What the others explain.
        classes: Whether the target is of classes; the noise is that of the features.
        model: A trained model, or the name of a backbone to train.
        window: Steps that the model looks back on; makes the data a series.
        horizon: Steps from the window's last to its target.
        stride: Steps from one window to the next.
        time: Column or level of time stamps.
        groups: Column(s) or level(s) that tell the series of a panel apart.
        frozen: Column(s) that inform the model but are not moved.
        irregular: As `refine` takes it.
        scale: "group" to scale columns in each group.
        training: How a backbone is trained: "plain", "ido" or "rlap".
        max_epochs: Most training epochs of the backbone.
        folds: Parts of the data, for each of which a backbone is trained without it.
        seed: Of what is drawn.
        progress: Called as training goes on.

    Returns:
        `Calibration`: `.noise`, `.curve`, `.gain`, `.settings`, `.refine(data)`.

    Raises:
        DenogradError: For data, columns or models that cannot be used; the message says why.

    Source:
        Stein 1981; see `denograd_jax.calibration` for how noise is found.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> noisy = np.sin(np.arange(2000) / 40)[:, None] + 0.2 * rng.normal(size=(2000, 1))
        >>> calibrate(noisy, window=12).noise["noise"].round(1).tolist()
        [0.2]
    """
    fitted = fit(
        data,
        target,
        classes=classes,
        model=model,
        window=window,
        horizon=horizon,
        stride=stride,
        time=time,
        groups=groups,
        frozen=frozen,
        irregular=irregular,
        scale=scale,
        training=training,
        max_epochs=max_epochs,
        folds=folds,
        seed=seed,
        progress=progress,
    )
    return calibration_of(fitted, fitted.read(data, target))


def calibration_of(
    fitted: Fitted, reading: Reading, told: Floats | None = None, cells: Cells | None = None
) -> Calibration:
    """What a fitted model says of data.

    Args:
        fitted: With a look at the noise.
        reading: The data.
        told: Standard deviation of the noise where it is known, in standardised units.
        cells: What the density says of the data, where that is known already.

    Raises:
        UnsupportedError: The model was fitted without a look at the noise.
    """
    found, table = fitted.noise, reading.table
    if found is None:
        raise UnsupportedError('this model was fitted without a look at the noise: rule="auto".')
    taken, likely = found.variance, found.likely
    if told is not None:
        taken = likely = (told**2).mean(axis=0)
    cells = seen_by(fitted.model, found, reading) if cells is None else cells
    means = [
        np.nan_to_num(np.nanmean(np.where(np.isnan(a).all(axis=0), 0, a), axis=0))
        for a in (cells.precision, cells.score**2)
    ]
    left = np.array([error_after(likely, a * taken, *means) for a in STRENGTHS])
    total = likely.sum()
    share = left.sum(axis=1) / total if total > 0 else np.ones(len(STRENGTHS))
    chosen = int(np.flatnonzero(STRENGTHS == 1)[0])
    shown = np.flatnonzero(table.movable)
    known = likely[shown] > 0
    sigmas = np.where(known, np.sqrt(likely[shown]), np.nan)
    off = 1 - np.sqrt(left[chosen][shown] / np.where(known, likely[shown], 1))
    noise = pd.DataFrame(
        {
            "noise": sigmas * np.broadcast_to(table.scale, table.values.shape).mean(axis=0)[shown],
            "sigmas": sigmas,
            "off": np.where(known, off, 0),
        },
        index=pd.Index([table.labels[j] for j in shown], tupleize_cols=False, name="column"),
    )
    curve = pd.DataFrame({"strength": STRENGTHS, "error": np.sqrt(share)})
    return Calibration(noise, curve, float(max(1 - np.sqrt(share[chosen]), 0)), fitted)
