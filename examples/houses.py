"""A table from end to end: how much noise there is, taking it off, and looking at what moved."""

import numpy as np

from denograd_jax import calibrate, datasets, metrics

COLUMNS = ["price", "TLA", "beds", "baths", "frontage", "depth", "garagesqft", "rooms", "lotsize"]


def main():
    clean = datasets.load("lucas_county").head(2000)[COLUMNS]
    noisy = datasets.add_noise(clean, 0.3, columns=COLUMNS, seed=0)

    found = calibrate(noisy, "price")  # nothing is moved yet
    print(found)
    refined = found.refine(noisy)  # a frame like `noisy`

    low, high = refined.interval(0.9)  # error bars
    inside = ((low <= clean) & (clean <= high))[low.notna()].stack().mean()
    distance = [f[COLUMNS].to_numpy() for f in (refined.data, noisy, clean)]
    ratio = metrics.error_ratio(*distance)
    print(refined.summary())
    print(refined.top(3)[["row", "column", "before", "after", "sigmas"]].to_string())
    print(f"distance to the clean data: {ratio:.2f} of what it was")
    print(f"clean values within error bars of 90%: {inside:.0%}")
    return {
        "nearer to the clean data": ratio < 0.95,
        "by about what was said": abs((1 - ratio) - found.gain) < 0.15,
        "same index and columns": refined.data.axes[0].equals(noisy.index)
        and list(refined.data) == list(noisy),
        "error bars are about right": bool(np.abs(inside - 0.9) < 0.15),
    }


if __name__ == "__main__":
    main()
