"""GTZAN (Tzanetakis and Cook 2002): 30 s of 10 genres, in the split without its faults. docs/new-data-set.md.

raw/blues/blues.00000.wav ...       the ten folders of genres_original
raw/train_filtered.txt, valid_filtered.txt, test_filtered.txt    lines like blues/blues.00029.wav
"""

from pathlib import Path

from samplecnn.data.catalog import PARTS, Catalog, CatalogError, Clip, Split
from samplecnn.data.datasets.tables import decode, read_bytes


def catalog(raw: str, name: str) -> Catalog:
    """Read the split lists (Kereliuk et al. 2015: 443 / 197 / 290 clips); the folder of a file is its tag."""
    part_of: dict[str, str] = {}
    for part in PARTS:
        file = Path(raw) / f"{part}_filtered.txt"
        for path in decode(read_bytes(file), file).split():
            if part_of.setdefault(path, part) != part:
                raise CatalogError(f"{file}: {path} is in {part_of[path]} too")
    genres = sorted({path.split("/")[0] for path in part_of})
    return Catalog(
        name=name,
        audio=Path(raw),
        tags=tuple(genres),
        clips=tuple(Clip(path, path, (genres.index(path.split("/")[0]),)) for path in part_of),
        splits={"filtered": Split(tuple(part_of.values()), drop_untagged=False)},
        source={"layout": "gtzan"},
        excerpt_seconds=29,
    )
