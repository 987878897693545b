"""`python -m benchmarks.quality`."""

from .command import main

main()
