"""The data sets that come with the project: one entry each in `DATASETS`, one yaml in conf/data/.

A data set of one's own needs no entry, only a function that returns a `Catalog` and a yaml that names it:
docs/new-data-set.md.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dataset:
    """A data set: its title in a sentence, and its functions as `module.function`, imported when needed.

    `catalog` is what conf/data/NAME.yaml names; `formerly` what configurations of old runs name instead.
    `fetch(folder)` downloads the data set. `compare(store)` returns lines that put a store of it beside what
    is published.
    """

    name: str
    title: str
    catalog: str
    formerly: str | None = None
    fetch: str | None = None
    compare: str | None = None


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "mtat",
            "MagnaTagATune",
            "samplecnn.data.datasets.mtat.catalog",
            fetch="samplecnn.data.datasets.mtat_fetch.fetch_raw",
            compare="samplecnn.data.datasets.mtat.compare",
        ),
        Dataset("msd", "the Million Song Dataset", "samplecnn.data.datasets.msd.catalog"),
        Dataset("jamendo", "MTG-Jamendo", "samplecnn.data.datasets.jamendo.catalog"),
        Dataset("folder", "your own music", "samplecnn.data.datasets.folder.catalog"),
        Dataset(
            "mini",
            "the built-in set",
            "samplecnn.mini.catalog",
            formerly="samplecnn.data.datasets.mini.catalog",
        ),
    )
}


def find(catalog: str) -> Dataset | None:
    """Return the data set whose `data.catalog._target_` this is; None: it is one of the user's own."""
    return next((known for known in DATASETS.values() if catalog in (known.catalog, known.formerly)), None)
