"""`python -m benchmarks.paper`."""

from .command import main

main()
