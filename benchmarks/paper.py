"""The DenoGrad study (arXiv 2511.10161) again, beside the same study tested on untouched rows.

    python benchmarks/paper.py DATA_FOLDER [--quick | --small] [--out FOLDER] [--only-data ...]
    python benchmarks/paper.py fetch DATA_FOLDER

The same as `python -m benchmarks.paper`; what it does stands in the package `paper` beside it.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from benchmarks.paper.command import main

    main()
