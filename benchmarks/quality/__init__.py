"""A grid of data set x noise x method x seed, and what each method made of each.

    python -m benchmarks.quality DATA_FOLDER [--quick] [--out FOLDER]

    command.py     arguments, progress, Ctrl-C
    grid.py        which cells there are; each is computed once and kept in a file
    data.py        Parquet files and synthetic systems, cut into what is refined and what is not
    noise.py       kinds of noise
    methods.py     what is compared: `method(noisy, problem) -> frame`
    measures.py    a refined frame against the clean one; downstream.py: models trained on it
    summary.py     Markdown; figures.py: heat maps

A practitioner's method has its own automatic setting and never sees the truth. Only methods that
say so are told the scale of the noise.
"""
