"""Tables of music of one's own, and where a catalogue puts its clips."""

from pathlib import Path

from samplecnn.data.catalog import Catalog


def table(raw: Path, *lines: str, name: str = "tags.csv") -> Path:
    raw.mkdir(exist_ok=True)
    (raw / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return raw


def parts_of(catalog: Catalog) -> dict[str, str | None]:
    return {clip.id: part for clip, part in zip(catalog.clips, catalog.splits["own"].parts, strict=True)}
