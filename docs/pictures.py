"""Make the README's picture: `python docs/pictures.py`.

A copy of the shipped weather with noise of 0.3 standard deviations on every measured column,
refined in 400 steps; five days of one column, with the original beside it.
"""

from pathlib import Path

import numpy as np

from denograd_jax import datasets, metrics, refine
from denograd_jax.report._figures import series_picture

COLUMN, STATION, STEPS = "temp", "LGA", 400
PICTURE = Path(__file__).parent / "repaired_series.png"


def main():  # noqa: D103
    about = datasets.describe("nyc_weather_2013")
    clean = datasets.load(about.name)
    measured = [c for c in clean.select_dtypes("number") if c not in about.frozen]
    noisy = datasets.add_noise(clean, 0.3, columns=measured, seed=0)
    refined = refine(
        noisy,
        window=about.window,
        time=about.time,
        groups=about.groups,
        frozen=about.frozen,
        max_steps=STEPS,
    ).data
    ratio = metrics.error_ratio(*(f[[COLUMN]].to_numpy() for f in (refined, noisy, clean)))
    print(f"error of {COLUMN} to the original, refined over noisy: {ratio:.3f}")
    part = np.flatnonzero(clean["origin"] == STATION)[4000:4120]
    series_picture(
        PICTURE,
        noisy[COLUMN].to_numpy()[part],
        refined[COLUMN].to_numpy()[part],
        time=clean[about.time].dt.tz_localize(None).to_numpy()[part],
        truth=clean[COLUMN].to_numpy()[part],
        label="temperature, °F",
    )


if __name__ == "__main__":
    main()
