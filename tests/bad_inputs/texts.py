"""Files of text whose lines, numbers or header are not those of a table."""

from tests.bad_inputs.files import CSV, GOOD_LINES, File

NUMBERS = "save it with decimal points, and nothing between thousands."
SEPARATE = "save it with commas, semicolons or tabs."
HEADER = "in its header: name every column, quote text that contains"
ABOVE = "and delete what stands above the header."


def put(line: int, text: str) -> bytes:
    """The table with another line (the header is line 1)."""
    return "\n".join([*GOOD_LINES[: line - 1], text, *GOOD_LINES[line:], ""]).encode()


TEXTS = [
    File(
        "a line too long",
        "h.csv",
        put(5, "1,2,3,4"),
        f"{{path}} has 4 cell(s) in line 5, but 3 {HEADER} ',', {ABOVE}",
    ),
    File(
        "commas in text",
        "h.csv",
        b"a;b;y\n1;2;3\n" + b"4;5;6;7\n",
        f"{{path}} has 4 cell(s) in line 3, but 3 {HEADER} ';', {ABOVE}",
    ),
    File(
        "rows with names, as R writes them",
        "h.csv",
        b"a,y\n" + b"".join(b"row%d,%d,3\n" % (i, i) for i in range(9)),
        f"{{path}} has 3 cell(s) in line 2, but 2 {HEADER} ',', {ABOVE}",
    ),
    File(
        "a title above the header",
        "h.csv",
        b"Houses sold\n\n" + CSV,
        f"{{path}} has 3 cell(s) in line 3, but 1 {HEADER} ',', {ABOVE}",
    ),
    File(
        "a comment above the header",
        "h.csv",
        b"# exported, 2024\n" + CSV,
        f"{{path}} has 3 cell(s) in line 2, but 2 {HEADER} ',', {ABOVE}",
    ),
    File(
        "a spreadsheet's hint above the header",
        "h.csv",
        b"sep=;\n" + CSV.replace(b",", b";"),
        f"{{path}} has 3 cell(s) in line 2, but 2 {HEADER} ';', {ABOVE}",
    ),
    File(
        "a line too short",
        "h.csv",
        put(5, "1,2"),
        "{path} has 2 cell(s) in line 5, but 3 in its header: complete or delete that line (was "
        "the file cut off?).",
    ),
    File(
        "a line too short among quotes",
        "h.csv",
        b'a,b,y\n1,"2,0\n,5",3\n\n4,6\n',
        "{path} has 2 cell(s) in line 5, but 3 in its header: …",
    ),
    File("cut off", "h.csv", CSV[:-9], "{path} has 2 cell(s) in line 25, but 3 in its header: …"),
    File(
        "an open quotation mark",
        "h.csv",
        put(4, '1,"2,3'),
        "{path} has a quotation mark in line 4 that is never closed: close or delete it.",
    ),
    File(
        "an open quotation mark in the header",
        "h.csv",
        put(1, 'a,"b,y'),
        "{path} has a quotation mark in line 1 that is never closed: close or delete it.",
    ),
    File(
        "decimal commas",
        "h.csv",
        b"a;b;y\n1,5;2;3\n2,25;3;4\n",
        f"{{path}} writes numbers with commas (column 'a': 1,5): {NUMBERS}",
    ),
    File(
        "points and commas",
        "h.csv",
        b"a;y\n1;1.234,5\n2;99,0\n",
        f"{{path}} writes numbers with commas (column 'y': 1.234,5): {NUMBERS}",
    ),
    File(
        "commas between thousands",
        "h.csv",
        b'a,y\n1,"1,234.5"\n2,99\n',
        f"{{path}} writes numbers with commas (column 'y': 1,234.5): {NUMBERS}",
    ),
    File(
        "narrow spaces between thousands",
        "h.csv",
        "a,y\n1,1\u202f234\n2,99\n".encode(),
        f"{{path}} writes numbers with spaces (column 'y': 1 234): {NUMBERS}",
    ),
    File(
        "apostrophes between thousands",
        "h.csv",
        b"a,y\n1,1'234.50\n2,99\n",
        f"{{path}} writes numbers with apostrophes (column 'y': 1'234.50): {NUMBERS}",
    ),
    File(
        "pipes",
        "h.csv",
        CSV.replace(b",", b"|"),
        f"{{path}} seems to separate its cells by '|': {SEPARATE}",
    ),
    File(
        "spaces",
        "h.csv",
        CSV.replace(b",", b"  "),
        f"{{path}} seems to separate its cells by spaces: {SEPARATE}",
    ),
    File(
        "colons",
        "h.csv",
        CSV.replace(b",", b":"),
        f"{{path}} seems to separate its cells by ':': {SEPARATE}",
    ),
    File(
        "no header",
        "h.csv",
        CSV.partition(b"\n")[2],
        "{path} has numbers in its first line (…), which should name the columns: add a header.",
    ),
    File(
        "a name twice",
        "h.csv",
        put(1, "a,a,y"),
        "{path} has more than one column 'a': rename them.",
    ),
    File(
        "two columns without a name",
        "h.csv",
        put(1, ",,y"),
        "{path} has 2 columns without a name: name them in its first line.",
    ),
    File(
        "one column",
        "h.csv",
        b"y\n1.5\n2\n4\n",
        "there is no column besides the target for a model to learn from.",
    ),
    File(
        "rows of nothing",
        "h.csv",
        b"a,b,y\n,,\n,,\n",
        "target column 'y' has no value at all: there is nothing to learn from.",
    ),
]
