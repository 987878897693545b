"""Bad input, and the one line that a user is told: calls, files and commands.

A message is written out in full; "…" stands for what differs between versions and machines, and
"{path}" for the file's path.
"""

from tests.bad_inputs.cells import CELLS
from tests.bad_inputs.classes import CLASSES
from tests.bad_inputs.columns import COLUMNS
from tests.bad_inputs.commands import COMMANDS
from tests.bad_inputs.data import KINDS, SHAPES
from tests.bad_inputs.formats import FORMATS
from tests.bad_inputs.limits import LIMITS
from tests.bad_inputs.options import OPTIONS
from tests.bad_inputs.paths import PATHS
from tests.bad_inputs.texts import TEXTS

__all__ = ["CALLS", "COMMANDS", "FILES"]

CALLS = [*KINDS, *SHAPES, *COLUMNS, *CELLS, *OPTIONS, *LIMITS, *CLASSES]
FILES = [*FORMATS, *TEXTS, *PATHS]
