"""Chooses 100 clips of a folder in MagnaTagATune's layout for experiments/small_set: 60, 20 and 20.

python experiments/small_set/select_clips.py RAW OUT

Writes OUT/tags.csv with links to the clips, for data=folder. Clips are drawn from the directories of each
part of the split (0-b, c, d-f), the tags are the eight most frequent of the 100.
"""

import csv
import random
import sys
from collections import Counter
from pathlib import Path

PARTS = {"train": ("0123456789ab", 60), "valid": ("c", 20), "test": ("def", 20)}
TAGS = 8


def main(raw: Path, out: Path) -> None:
    """Choose, link and write the table."""
    with (raw / "annotations_final.csv").open(newline="", encoding="utf-8") as file:
        clips = list(csv.DictReader(file, delimiter="\t"))
    draw = random.Random(0)  # noqa: S311 nothing secret
    chosen = [
        (part, clip)
        for part, (folders, count) in PARTS.items()
        for clip in draw.sample([c for c in clips if c["mp3_path"][0] in folders], count)
    ]
    names = [name for name in clips[0] if name not in ("clip_id", "mp3_path")]
    counts = Counter(name for _, clip in chosen for name in names if clip[name] == "1")
    kept = sorted(name for name, _ in counts.most_common(TAGS))
    out.mkdir(parents=True, exist_ok=True)
    with (out / "tags.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "tags", "split"])
        for part, clip in chosen:
            name = Path(clip["mp3_path"]).name
            (out / name).symlink_to((raw / "mp3" / clip["mp3_path"]).resolve())
            table.writerow([name, ";".join(tag for tag in kept if clip[tag] == "1"), part])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
