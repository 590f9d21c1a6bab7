"""Writes the table of a folder in MagnaTagATune's layout for data=folder, which makes a split of its own.

python experiments/few/make_table.py RAW OUT

Writes OUT/tags.csv and links to the clips. The clips of a track are a group: no track is in two parts.
"""

import csv
import re
import sys
from pathlib import Path


def main(raw: Path, out: Path) -> None:
    """Link the clips and write the table."""
    with (raw / "annotations_final.csv").open(newline="", encoding="utf-8") as file:
        clips = list(csv.DictReader(file, delimiter="\t"))
    names = [name for name in clips[0] if name not in ("clip_id", "mp3_path")]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "tags.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "tags", "group"])
        for clip in clips:
            name = Path(clip["mp3_path"]).name
            (out / name).symlink_to((raw / "mp3" / clip["mp3_path"]).resolve())
            track = re.sub(r"-\d+-\d+\.mp3$", "", name)  # SONG-START-END.mp3, in seconds
            table.writerow([name, ";".join(tag for tag in names if clip[tag] == "1"), track])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
