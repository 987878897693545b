"""What `find_noisy` gives back."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denograd_jax.classification._labels import Labels

__all__ = ["NoisyRows"]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class NoisyRows:
    """Rows by how likely their label is wrong.

    Attributes:
        table: One line a row, the most suspicious first, under the labels of its index: `row`, its
            position; the given `label`; the label `suggested`, the most likely one given features
            and label; `label_wrong`, the probability that the given label is wrong (NaN where there
            is none); `feature_score`, how far its features are from those of any class, over what
            is usual (1; NaN without numeric features): no probability; `rank`, from 1.
        posterior: P(true class | features, given label), rows as given, a column a class.
        out_of_fold: P(class | features) by classifiers that did not see the row, trained on the
            labels as they are; `find_noisy(X, y, probabilities=...)` takes it.
        transition: P(given label | true class); a line a true class, a column a given one.
        least_noise_rate: Share of the given labels that is wrong if classes overlap as much as they
            can: where it is far below `noise_rate`, the data cannot tell noise from overlap.
        labels: The given labels, read.
        settings: What the rows were judged with, by name.
    """

    table: pd.DataFrame
    posterior: pd.DataFrame
    out_of_fold: pd.DataFrame
    transition: pd.DataFrame
    least_noise_rate: float
    labels: Labels
    settings: Mapping[str, object]

    @property
    def noise_rate(self) -> float:
        """Share of the given labels that is expected to be wrong."""
        return float(self.table["label_wrong"].mean())

    @property
    def joint(self) -> pd.DataFrame:
        """Share of rows by true class (line) and given label (column); it sums to 1."""
        labelled = self.labels.codes >= 0
        given = np.eye(len(self.labels.classes))[self.labels.codes[labelled]]
        shares = self.posterior.to_numpy()[labelled].T @ given / labelled.sum()
        return pd.DataFrame(shares, self.transition.index, self.transition.columns)

    @property
    def weights(self) -> NDArray[np.float64]:
        """Probability that the label `corrected()` gives is right, `(n,)`, rows as given.

        As `sample_weight` they let doubtful rows say little.
        """
        weights: NDArray[np.float64] = self.posterior.to_numpy().max(axis=1)
        return weights

    def corrected(self) -> pd.Series:
        """The labels, rows as given, with the suggested one wherever it is more likely.

        Missing ones are filled. What was given is not changed.
        """
        return self.labels.of(self.posterior.to_numpy().argmax(axis=1))

    def top(self, count: int = 20) -> pd.DataFrame:
        """The first lines of `table`."""
        return self.table.head(count)

    def summary(self) -> str:
        """A few lines for a person."""
        return "\n".join(self._sentences())

    def in_words(self) -> list[str]:
        """The summary, in sentences."""
        return [f"{line[0].upper()}{line[1:]}." for line in self._sentences()]

    def _sentences(self) -> list[str]:
        wrong = self.table["label_wrong"]
        likely = int((wrong > 0.5).sum())
        lines = [
            f"{len(wrong)} rows, {len(self.labels.classes)} classes: about "
            f"{self.noise_rate:.1%} of the labels are wrong; {likely} more likely than not"
        ]
        if self.noise_rate - self.least_noise_rate > 0.02:
            lines.append(
                f"where classes may overlap it need be no more than {self.least_noise_rate:.1%}"
            )
        if wrong.isna().any():
            missing = int(wrong.isna().sum())
            which = "1 row has" if missing == 1 else f"{missing} rows have"
            lines.append(f"{which} no label; one is suggested")
        joint = self.joint.to_numpy() * (~np.eye(len(self.labels.classes), dtype=bool))
        for place in np.argsort(joint, axis=None)[::-1][:3]:
            true, given = np.unravel_index(place, joint.shape)
            rows = joint[true, given] * wrong.notna().sum()
            if rows >= 1:
                classes = self.labels.classes
                lines.append(f"about {rows:.0f} called {classes[given]} are {classes[true]}")
        return lines

    def report(self, path: str | Path) -> None:
        """Write one self-contained HTML page; needs the extra `[report]`.

        Raises:
            FileError: If the folder does not exist or cannot be written to.
            MissingExtraError: If the extra is not installed.
        """
        from denograd_jax.report import write_noisy_rows_report

        write_noisy_rows_report(self, path)

    def __repr__(self) -> str:
        return f"NoisyRows(\n{self.summary()}\n)"
