"""How well does a method bring noisy copies of data back to the original?

    python benchmarks/quality.py DATA_FOLDER [--quick] [--out FOLDER] [--only-data ETTh1 ...]

The same as `python -m benchmarks.quality`; what it does stands in the package `quality` beside it.
"""

from quality.command import main  # the package: it comes before a module of the same name

if __name__ == "__main__":
    main()
