"""The table in Markdown."""

import pandas as pd

NO_HARM = 1.01
SMALL_MOVE = 0.05  # standard deviations that data without noise may be moved
WORST = 3
"""Cells listed for each method."""

ERROR, MOVE = "error ratio", "move"
OURS = "refine"
PARTS = [("series", "all"), ("rows", "all"), ("both", "all"), ("both", "X and y")]
ROUNDING = 1e-6


def markdown(table: pd.DataFrame) -> str:
    """What the grid says, for people.

    Args:
        table: From `grid.table`.

    Returns:
        Markdown.
    """
    sections = ["# Quality of refinement\n", extent(table)]
    for kind in ("series", "rows"):
        chosen = table[table["kind"] == kind]
        if len(chosen):
            sections += [means(chosen, kind, part) for part in ("all", "X", "y")]
            sections.append(others(chosen, kind))
    sections += [against(table), coverage(table), no_harm(table), worst(table), failures(table)]
    return "\n".join(sections)


def extent(table):
    counts = {name: table[name].nunique() for name in ("data", "noise", "method", "seed")}
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    cells = len(cells_of(table))
    return (
        f"{cells} cells ({said}). Error ratio: distance to the clean data after refinement over "
        "before, root mean square in standard deviations; 1 is doing nothing, lower is better. "
        'Under "none" there is no ratio: the figure is how far the data were moved, and 0 is best. '
        "Parts are all columns, X (all but the target) and y (the target); a part that got no "
        "noise has no ratio and is left out of its mean.\n"
    )


def cells_of(table):
    return table[["data", "noise", "method", "seed"]].drop_duplicates()


def selected(table, part):
    """Ratios of a part; moves where there is no noise at all."""
    measure = table["noise"].map(lambda name: MOVE if name == "none" else ERROR)
    return table[(table["part"] == part) & (table["measure"] == measure)]


def means(table, kind, part):
    """Mean ratio per method and noise, and over all kinds of noise."""
    found = selected(table, part)
    wide = found.pivot_table(index="method", columns="noise", values="value", aggfunc="mean")
    noisy = found[found["measure"] == ERROR]
    wide.insert(0, "mean", noisy.groupby("method")["value"].mean())
    counts = noisy.groupby("method")["value"].count().reindex(wide.index, fill_value=0)
    wide.insert(1, "cells", counts.astype(str))
    wide = ordered(wide, table)
    return f"## {kind}: mean error ratio, {part}\n\n{as_text(wide)}"


def others(table, kind):
    """The other measures, averaged over all cells with noise."""
    chosen = table[(table["noise"] != "none") & table["part"].isin(["all", "test"])]
    chosen = chosen[~chosen["measure"].isin([ERROR, MOVE, "failed"])]
    wide = chosen.pivot_table(index="method", columns="measure", values="value", aggfunc="mean")
    note = (
        "Distances of the refined to the clean data; error on the clean held-out part of models "
        "trained on the refined data, over that of models trained on the noisy data."
    )
    title = f"## {kind}: other measures, mean over all noise"
    return f"{title}\n\n{note}\n\n{as_text(ordered(wide, table))}"


def ordered(wide, table):
    """Methods and kinds of noise in the order of the table, that is, of the registry."""
    first = [c for c in wide.columns if c not in set(table["noise"])]
    noises = [n for n in table["noise"].unique() if n in wide.columns]
    methods = [m for m in table["method"].unique() if m in wide.index]
    return wide.loc[methods, [*first, *noises]]


def against(table):
    """For our default: how often it is at least as good as another, over the cells of both."""
    found = table[(table["measure"] == ERROR) & table["part"].isin(["all", "X", "y"])]
    found = found[found["noise"] != "none"]
    cells = found.pivot_table(
        index=["kind", "data", "noise", "part"], columns="method", values="value", aggfunc="mean"
    )
    families = table.drop_duplicates("method").set_index("method")["family"]
    packages = [m for m in cells if families[m] == "package"]
    if packages:
        cells["the package's better version"] = cells[packages].min(axis=1)
    lines = {}
    for other in [c for c in cells if families.get(c, "package") in ("practice", "package")]:
        for kind, part in PARTS:
            kinds = ["series", "rows"] if kind == "both" else [kind]
            parts = ["X", "y"] if part == "X and y" else [part]
            names = cells.index
            chosen = names.get_level_values("kind").isin(kinds)
            chosen &= names.get_level_values("part").isin(parts)
            both = cells.loc[chosen, [OURS, other]].dropna() if OURS in cells else cells[:0]
            if len(both):
                lines[f"{other}, {kind}, {part}"] = {
                    "cells": str(len(both)),
                    "at least as good": (both[OURS] <= both[other] + ROUNDING).mean(),
                    "mean of ours": both[OURS].mean(),
                    "mean of theirs": both[other].mean(),
                }
    title = f"## {OURS} against others, seeds averaged"
    if not lines:
        return f"{title}\n\nNothing to compare.\n"
    return f"{title}\n\n{as_text(pd.DataFrame.from_dict(lines, 'index').rename_axis('method'))}"


def coverage(table):
    """Share of clean values within the 90 % error bars, by kind of noise."""
    found = table[table["measure"].isin(["coverage", "cells with error bars"])]
    wide = found.pivot_table(
        index=["method", "kind", "measure"], columns="noise", values="value", aggfunc="mean"
    )
    wide.index = pd.Index([", ".join(line) for line in wide.index], name="method")
    title = "## Error bars of 90 %"
    return f"{title}\n\n{as_text(wide) if len(wide) else 'None.' + chr(10)}"


def no_harm(table):
    """For ours: the share of cells in which nothing got worse."""
    lines = {}
    for method, found in table[table["family"] == "ours"].groupby("method", sort=False):
        ratios = found[(found["measure"] == ERROR) & (found["noise"] != "none")]
        shares = {
            f"{part}, ratio <= {NO_HARM}": (ratios.loc[ratios["part"] == part, "value"] <= NO_HARM)
            for part in ("all", "X", "y")
        }
        moves = found[found["measure"] == MOVE]
        untouched = (moves["noise"] != "none") & moves["part"].isin(["X", "y"])
        for name, chosen in (
            ("the part without noise", moves[untouched]),
            ("no noise at all", moves[(moves["noise"] == "none") & (moves["part"] == "all")]),
        ):
            shares[f"{name}, move < {SMALL_MOVE}"] = chosen["value"] < SMALL_MOVE
        lines[method] = {name: share.mean() for name, share in shares.items()}
    shares = pd.DataFrame.from_dict(lines, orient="index")
    return f"## No harm: share of cells, our methods\n\n{as_text(shares.rename_axis('method'))}"


def worst(table):
    """The cells in which each method did worst, seeds averaged."""
    found = table[(table["part"] == "all") & (table["measure"] == ERROR)]
    means = found.groupby(["method", "data", "noise"], sort=False)["value"].mean().reset_index()
    lines = ["## Worst cells of each method\n"]
    for method, each in means.groupby("method", sort=False):
        cells = each.nlargest(WORST, "value").itertuples()
        said = "; ".join(f"{c.data}, {c.noise}: {c.value:.2f}" for c in cells)
        lines.append(f"- {method}: {said}")
    return "\n".join(lines) + "\n"


def failures(table):
    """Cells without a result, and why."""
    failed = table[table["measure"] == "failed"]
    lines = ["## Failures\n"]
    groups = failed.groupby(["method", "error"], sort=False)
    for (method, error), each in groups:
        where = sorted({f"{c.data} ({c.noise})" for c in each.itertuples()})
        shown = ", ".join(where[:5]) + (", ..." if len(where) > 5 else "")
        first_line = str(error).splitlines()[0]
        lines.append(f"- {method}, {len(each)} cells: `{first_line}` in {shown}")
    return "\n".join(lines if len(failed) else [*lines, "None."]) + "\n"


def as_text(frame):
    """A Markdown table; empty cells where there is no number."""
    names = [frame.index.name or "", *map(str, frame.columns)]
    lines = [names, ["---"] * len(names)]
    lines += [
        [str(label), *map(number, row)]
        for label, row in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def number(value):
    if isinstance(value, str):
        return value
    return "" if pd.isna(value) else f"{value:.3f}"
