"""The DenoGrad study again: its data, noise, methods, regressors, measures and tests.

    python -m benchmarks.paper DATA_FOLDER [--quick | --small] [--out FOLDER]
    python -m benchmarks.paper fetch DATA_FOLDER

    command.py      arguments, progress, Ctrl-C
    sources.py      the data sets from where they are published; raw.py: as the study prepares them
    data.py         Parquet files, cut into training, validation and test rows
    copies.py       noisy copies, and the one whose target is pure noise
    methods.py      what is compared; denograd.py, baselines.py, networks.py
    examples.py     rows or windows, and targets; downstream.py: models trained on the refined rows
    measures.py     a refined copy against the noisy and against the clean one
    grid.py         which cells there are; each is computed once and kept in a file
    scores.py       Imp% and ratios from the cells; ranks.py: Friedman, Nemenyi; bars.py: the bars
    summary.py      Markdown; figures.py: bars, critical-difference diagrams

Two protocols stand side by side. Ours tests the downstream models on untouched rows: the rows as
they were before noise, which no method has seen. The authors' tests them on rows that were refined
too, target included, so that a method is also paid for making the test easier.
"""
