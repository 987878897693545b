"""Commands with outputs or arguments that are refused."""

from typing import NamedTuple

from tests.bad_inputs.files import LONG


class Command(NamedTuple):
    """A command that is refused, where `h.csv` is a good table.

    The folder also holds: `link.csv`, a link to it; `same.csv`, the same file by another name;
    `taken.csv`; `nowhere.csv`, a link to a file that does not exist; `folder.csv/`.

    Attributes:
        name: Of the case.
        line: What follows `denograd-jax`.
        says: The message.
    """

    name: str
    line: str
    says: str


INPUT = "is the input, which is never replaced: choose another name."
TWICE = "is named for two outputs: choose another name for one."
EXISTS = "exists: choose another name, or add --overwrite."
TABLE = "refine h.csv --target y"

OUTPUTS = [
    Command("the input", f"{TABLE} --out h.csv", f"h.csv {INPUT}"),
    Command("the input, insisted on", f"{TABLE} --out h.csv --overwrite", f"h.csv {INPUT}"),
    Command(
        "the input, spelt otherwise",
        f"{TABLE} --out folder.csv/../h.csv --overwrite",
        f"folder.csv/../h.csv {INPUT}",
    ),
    Command("a link to the input", f"{TABLE} --out link.csv --overwrite", f"link.csv {INPUT}"),
    Command(
        "the input by another name", f"{TABLE} --out same.csv --overwrite", f"same.csv {INPUT}"
    ),
    Command("the input for changes", f"{TABLE} --changes ./h.csv --overwrite", f"h.csv {INPUT}"),
    Command("two alike", f"{TABLE} --out n.csv --changes n.csv", f"n.csv {TWICE}"),
    Command(
        "two alike, spelt otherwise",
        f"{TABLE} --out n.csv --changes folder.csv/../n.csv",
        f"folder.csv/../n.csv {TWICE}",
    ),
    Command("the default again", f"{TABLE} --changes h.refined.csv", f"h.refined.csv {TWICE}"),
    Command("one that exists", f"{TABLE} --out taken.csv", f"taken.csv {EXISTS}"),
    Command("a link that exists", f"{TABLE} --out nowhere.csv", f"nowhere.csv {EXISTS}"),
    Command("changes that exist", f"{TABLE} --changes taken.csv", f"taken.csv {EXISTS}"),
    Command(
        "a folder",
        f"{TABLE} --out folder.csv --overwrite",
        "folder.csv is a folder: name a file in it.",
    ),
    Command(
        "in no folder", f"{TABLE} --out no/n.csv", "the folder no does not exist: create it first."
    ),
    Command(
        "in a file",
        f"{TABLE} --out taken.csv/n.csv",
        "taken.csv is a file, not a folder: choose another folder.",
    ),
    Command(
        "where nobody may write",
        f"{TABLE} --out /proc/n.csv",
        "/proc may not be written to: choose another folder.",
    ),
    Command(
        "a name too long",
        f"{TABLE} --out {LONG}.csv",
        f"{LONG}.csv cannot be written: File name too long.",
    ),
    Command("a workbook", f"{TABLE} --out n.xlsx", "n.xlsx has no ending of a table: …"),
    Command("no ending", f"{TABLE} --out n", "n has no ending of a table: …"),
    Command(
        "a workbook of changes", f"{TABLE} --changes n.xlsx", "n.xlsx has no ending of a table: …"
    ),
    Command(
        "a report that is no page",
        f"{TABLE} --report n.pdf",
        "n.pdf would be an HTML page: let its name end in .html.",
    ),
    Command(
        "a report in no folder",
        f"{TABLE} --report no/n.html",
        "the folder no does not exist: create it first.",
    ),
]

ARGUMENTS = [
    Command("no file", "refine", "Missing argument …."),
    Command(
        "no target",
        "refine h.csv",
        "…name the column that the others explain with --target, or add --series.",
    ),
    Command("a target without a name", "refine h.csv --target", "…--target… requires an argument…"),
    Command("two files", f"{TABLE} again.csv", "…again.csv…"),
    Command("an unknown command", "repair h.csv", "No such command 'repair'."),
    Command("an unknown option", f"{TABLE} --colour red", "No such option: --colour…"),
    Command("a window of none", f"{TABLE} --window 0", "Invalid value for '--window': …"),
    Command("a window in words", f"{TABLE} --window day", "Invalid value for '--window': …"),
    Command(
        "a horizon of none", f"{TABLE} --window 3 --horizon 0", "Invalid value for '--horizon': …"
    ),
    Command(
        "a horizon of rows",
        f"{TABLE} --horizon 2",
        "…--horizon and --stride are for a series: add --series.",
    ),
    Command(
        "a time of rows", f"{TABLE} --time a", "…--time and --group are for a series: add --series."
    ),
    Command("an unknown rule", f"{TABLE} --rule magic", "Invalid value for '--rule': …'magic'…"),
    Command("a negative step", f"{TABLE} --step-size -1", "Invalid value for '--step-size': …"),
    Command(
        "a step that is no number", f"{TABLE} --step-size nan", "Invalid value for '--step-size': …"
    ),
    Command(
        "a negative tolerance", f"{TABLE} --tolerance=-1", "Invalid value for '--tolerance': …"
    ),
    Command("no epochs", f"{TABLE} --max-epochs 0", "Invalid value for '--max-epochs': …"),
    Command("half a step", f"{TABLE} --max-steps 1.5", "Invalid value for '--max-steps': …"),
    Command("a seed too large", f"{TABLE} --seed 4294967296", "Invalid value for '--seed': …"),
]

COMMANDS = [*OUTPUTS, *ARGUMENTS]
