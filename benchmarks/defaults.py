"""How near to the original do the defaults of `refine` bring noisy copies of real data?

    python benchmarks/defaults.py DATA_FOLDER [--rules auto unit_step]

Reads Parquet files that the folder holds (see DATA_SETS), takes the first 8,000 rows, adds
Gaussian noise of 0.1 and 0.3 standard deviations to every numeric column, refines, and prints the
distance to the original over the noise: 1 is doing nothing, lower is better. By the usual rule,
"auto", and by the published one with its default number of steps. DENOGRAD_DATA names the folder
where no argument does.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd

from denograd_jax import datasets, refine

DATA_SETS = {
    "ETTh1": None,
    "WTH": None,
    "appliances_energy_10min": None,
    "california_housing": "MedHouseVal",
    "house_prices": "y",
    "parkinsons": "y",
}
"""File, and target of a table; a series of evenly spaced rows has none."""


def ratios(frame, target, noise, rule, seed):
    columns = [c for c in frame.select_dtypes("number") if frame[c].nunique() > 2]
    noisy = datasets.add_noise(frame, noise, columns=columns, seed=seed)
    window = None if target else 24
    refined = refine(noisy, target, window=window, rule=rule, seed=seed).data
    clean = frame[columns].astype(float)
    scale = clean.std(ddof=0)
    errors = [np.sqrt((((copy[columns] - clean) / scale) ** 2).mean()) for copy in (noisy, refined)]
    each = errors[1] / errors[0]
    whole = np.sqrt((errors[1] ** 2).mean() / (errors[0] ** 2).mean())
    return whole, each.max(), each[target] if target else np.nan


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=os.environ.get("DENOGRAD_DATA"))
    parser.add_argument("--rules", nargs="+", default=["auto", "unit_step"])
    parser.add_argument("--only", nargs="*", default=list(DATA_SETS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.folder is None:
        parser.error("name the folder of the data, or set DENOGRAD_DATA")
    print("| data | noise | rule | all columns | worst column | target | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name in options.only:
        frame = pd.read_parquet(Path(options.folder) / f"{name}.parquet").iloc[:8000]
        for noise in (0.1, 0.3):
            for rule in options.rules:
                begin = time.perf_counter()
                found = ratios(frame, DATA_SETS[name], noise, rule, options.seed)
                numbers = " | ".join(f"{value:.3f}" for value in found)
                seconds = time.perf_counter() - begin
                print(f"| {name} | {noise} | {rule} | {numbers} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
