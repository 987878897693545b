"""The study in Markdown; ours, on untouched rows, always before the authors' protocol."""

import pandas as pd

from benchmarks.quality.summary import as_text

from . import bars, ranks
from .copies import PURE_NOISE
from .grid import DISTANCES
from .methods import METHODS, RANKED, TRUTH
from .scores import AUTHORS, HIGHER, OURS, RATIO, blocks, by_regressor, scored

UNTOUCHED = [OURS, RATIO, "SWD to clean", "correlation distance", "error ratio to clean"]
REFINED = [AUTHORS, "SWD to noisy", "rho", "KL"]
LABELS = {m: f"ours: {m}" for m in UNTOUCHED} | {m: f"authors': {m}" for m in REFINED}

EXPLAINED = """\
Two protocols stand side by side. **Ours, first**: downstream models are trained on refined rows and
tested on untouched ones, as they were before noise; distances are to the clean data. **The
authors'**: models are tested on rows that were refined too, target included; distances are to the
noisy data, where doing nothing scores 0. Imp%: by how much the mean square error fell against the
same model trained on the noisy rows, mean over models; error ratio: the root of what is left of it.
`unit_step` is the published DenoGrad, `unit_step FT` with an FT-Transformer as backbone.
`clean data` is the truth in place of a refinement, which nobody has: a yardstick, not ranked.
"""


def markdown(table: pd.DataFrame, left_out: dict[str, str]) -> str:
    """What the cells say, for people.

    Args:
        table: From `grid.table`.
        left_out: Data sets, methods and regressors that were left out, and why.
    """
    scores = scored(table)
    sections = ["# The DenoGrad study, in two protocols\n", extent(table), EXPLAINED]
    sections += [absent(left_out), bar_section(scores)]
    for copy in bars.noisy_copies(scores):
        sections += [means(scores, copy), by_data_set(scores, copy)]
    sections += [pure_noise(scores), *by(table, scores)]
    for copy in bars.noisy_copies(scores):
        sections.append(tests(scores, copy))
    sections += [times(table), failures(table)]
    return "\n".join(sections)


def extent(table):
    names = {"data": "data sets", "copy": "kinds of copy", "method": "methods", "seed": "seeds"}
    said = ", ".join(f"{table[column].nunique()} {name}" for column, name in names.items())
    cells = len(table[["data", "copy", "method", "part", "seed"]].drop_duplicates())
    return f"{cells} cells: {said}; {', '.join(table['data'].unique())}.\n"


def absent(left_out):
    lines = [f"- {name}: {why}" for name, why in left_out.items()] or ["Nothing."]
    return "## Left out\n\n" + "\n".join(lines) + "\n"


def bar_section(scores):
    by_mean, on_each = (", ".join(bars.harmless(scores, each)) for each in (False, True))
    lines = [f"- {line}" for line in bars.lines(scores)] or ["No ranks to compare."]
    return (
        "## Bars\n\n"
        f"No harm on clean data (mean error ratio at most {bars.NO_HARM}): {by_mean}; on each data "
        f"set: {on_each}.\n\n" + "\n".join(lines) + "\n"
    )


def means(scores, copy):
    """Means over data sets and seeds, rows and series apart."""
    sections = [f"## {copy}: means"]
    of_copy = scores[scores["copy"] == copy]
    for form, found in of_copy.groupby("form", sort=False):
        columns = [c for c in [*UNTOUCHED, *REFINED] if c in found]
        wide = in_order(found.groupby("method")[columns].mean()).dropna(axis=1, how="all")
        sections.append(f"### {form}\n\n{as_text(labelled(wide))}")
    return "\n\n".join(sections)


def by_data_set(scores, copy):
    """Ratios of errors on untouched rows, seeds averaged, with ranks of what all data sets have."""
    found = scores[scores["copy"] == copy]
    wide = in_order(found.pivot_table(index="method", columns="data", values=RATIO, sort=False))
    wide["mean"] = wide.mean(axis="columns")
    wide["mean rank"] = ranks.mean_ranks(blocks(scores, RATIO, copy, RANKED), higher=False)
    lines = [f"### {copy}: error ratio by data set", as_text(wide)]
    if TRUTH.name in wide.index:
        lines.insert(1, "What the clean data are below 1 is all that denoising can gain.")
    return "\n\n".join(lines)


def labelled(wide):
    """Columns that say whose they are."""
    return wide.rename(columns=LABELS)


def in_order(wide):
    """Methods in the order of the registry."""
    return wide.reindex([m.name for m in METHODS if m.name in wide.index]).rename_axis("method")


def pure_noise(scores):
    title = "## A target of pure noise"
    found = scores[scores["copy"] == PURE_NOISE.name]
    if found.empty:
        return f"{title}\n\nNot asked for.\n"
    note = (
        "Nothing explains this target, so that no method can be of use: what stands in the second "
        "column of a data set is what the authors' protocol measures besides use."
    )
    return f"{title}\n\n{note}\n\n{as_text(side_by_side(found, 'data'))}"


def side_by_side(found, what):
    """Imp% in both protocols, for each value of a column, seeds and all else averaged."""
    wide = found.pivot_table(index="method", columns=what, values=[OURS, AUTHORS], observed=True)
    columns = [(m, v) for v in found[what].unique() for m in (OURS, AUTHORS) if (m, v) in wide]
    wide = in_order(wide[columns])
    return wide.set_axis(
        [f"{v}, {'ours' if m == OURS else 'authors’'}" for m, v in columns], axis="columns"
    )


def by(table, scores):
    """Imp% by regressor, and by data set."""
    each = by_regressor(table)
    each, all_scores = (f[f["copy"] != PURE_NOISE.name] for f in (each, scores))
    for found, what, name in ((each, "part", "regressor"), (all_scores, "data", "data set")):
        if len(found):
            yield f"## Imp% by {name}, all noise\n\n{as_text(side_by_side(found, what))}"


def tests(scores, copy):
    """Mean ranks with Friedman's test and the critical difference of Nemenyi's."""
    found = {}
    for measure, methods in compared(scores):
        values = blocks(scores, measure, copy, methods)
        if values.shape[1] < 2:
            continue
        column = ranks.mean_ranks(values, measure in HIGHER)
        column["data sets"] = len(values)
        column["Friedman p"] = ranks.friedman(values)
        column["critical difference"] = ranks.critical_difference(values.shape[1], len(values))
        found[measure] = column
    wide = pd.DataFrame(found)
    last = [n for n in ("data sets", "Friedman p", "critical difference") if n in wide.index]
    wide = pd.concat([in_order(wide), wide.loc[last]]).rename_axis("method")
    return f"## {copy}: mean ranks\n\n{as_text(labelled(wide))}"


def compared(scores):
    """Measures with the methods that are ranked by them."""
    for measure in bars.OURS:
        yield measure, bars.harmless(scores)
    for measure in (OURS, *bars.PUBLISHED):
        yield measure, bars.EIGHT


def times(table):
    """Processor seconds of a refinement, and of a regressor's training and tests."""
    found = table[table["measure"] == "cpu seconds"]
    refinements = found[found["part"] == DISTANCES]
    parts = [
        "Of all processors together, compiling included. The backbone of DenoGrad's rules is "
        "trained by the first of them, which is `unit_step`; `unit_step FT` trains its own.\n"
    ]
    for some, what in ((refinements, "method"), (found.drop(refinements.index), "part")):
        if len(some):
            wide = some.pivot_table(index=what, columns="form", values="value", aggfunc="mean")
            parts.append(as_text(wide.rename_axis(what)))
    return "## Processor seconds, mean\n\n" + "\n".join(parts)


def failures(table):
    """Cells without a result, and why."""
    failed = table[table["measure"] == "failed"]
    lines = []
    for (method, error), each in failed.groupby(["method", "error"], sort=False):
        where = ", ".join(sorted(set(each["data"])))
        lines.append(f"- {method}, {len(each)} cells: `{error.splitlines()[0]}` in {where}")
    return "## Failures\n\n" + "\n".join(lines or ["None."]) + "\n"
