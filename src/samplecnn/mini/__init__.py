"""The built-in data set `mini`: music composed and rendered on the spot, laid out like MagnaTagATune.

A few hundred clips of 29 s, played with real General MIDI instrument sounds, whose tags are true by
construction. It is there so that a fresh clone can train, evaluate and be tested without a download,
through the same door as the real data set; it is no benchmark.

    render_mini(Path("data/raw/mini"), clips=240, seed=0)

`plan.py` decides what the set contains, `compose.py` writes the notes, `render.py` makes audio of them.
"""

import csv
import io
import json
import multiprocessing
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from samplecnn.errors import UserError
from samplecnn.files import locked, write
from samplecnn.mini.plan import MIN_CLIPS, TAGS, Clip, plan_clips
from samplecnn.mini.render import render_clip, sound_font
from samplecnn.processes import belong_to_parent, ctrl_c_waits, let_children_start
from samplecnn.text import shown
from samplecnn.threads import available

if TYPE_CHECKING:
    from samplecnn.data.catalog import Catalog

__all__ = ["TAGS", "catalog", "render_mini"]

OURS = re.compile(r"mini\.(lock|json.*\.tmp)|\..*")  # may be there before mini.json
VERSION = 2  # of the composer: raised whenever the same seed gives other music


def catalog(raw: str | Path, *, clips: int = 240, seed: int = 0, name: str = "mini") -> "Catalog":
    """Render what is not there yet, then read it as any data set in MagnaTagATune's layout.

    Raises what `render_mini` and `mtat.catalog` raise.
    """
    from samplecnn.data.datasets import mtat  # not above: the rendering processes need no PyTorch

    render_mini(Path(raw), clips=clips, seed=seed)
    return mtat.catalog(raw, name)


def render_mini(
    raw: Path, *, clips: int = 240, seed: int = 0, workers: int | None = None, progress: bool = True
) -> None:
    """Write `raw/mp3/<0-f>/*.mp3` (16 kHz mono, 29 s) and `raw/annotations_final.csv`.

    The same `clips` and `seed` give the same bytes, however many `workers` there are (by default one per
    usable core). After an interruption a second call renders what is missing; the annotations are written
    last and so mark a finished set.

    Raises `UserError` for a folder that holds anything else, which is left as it is, for impossible numbers,
    and where a package is missing.
    """
    if clips < MIN_CLIPS:
        raise UserError(f"clips={clips}: needs at least {MIN_CLIPS}, one for each of the directories 0-f")
    if seed < 0:
        raise UserError(f"seed={seed}: must not be negative")
    if workers is not None and workers < 1:
        raise UserError(f"workers={workers}: must be at least 1")
    identity = json.dumps({"version": VERSION, "clips": clips, "seed": seed})
    _refuse_others_data(raw, identity)
    plan = plan_clips(clips, seed)
    if _is_finished(raw, plan):
        return
    sound_font()  # says what is not installed before anything is written
    raw.mkdir(parents=True, exist_ok=True)
    with locked(raw / "mini.lock", waiting=f"another process renders {raw}: waiting until it is finished"):
        _refuse_others_data(raw, identity)
        if _is_finished(raw, plan):
            return
        write(raw / "mini.json", identity + "\n")
        missing = [clip for clip in plan if not (raw / "mp3" / clip.path).exists()]
        there = len(plan) - len(missing)
        with tqdm(desc="mini", total=len(plan), initial=there, unit="clip", disable=not progress) as bar:
            for _ in _render(missing, seed, raw / "mp3", workers or available()):
                bar.update()
        write(raw / "annotations_final.csv", _annotations(plan))


def _refuse_others_data(raw: Path, identity: str) -> None:
    record = raw / "mini.json"
    if record.exists():
        found = record.read_text(encoding="utf-8", errors="replace").strip()
        if found != identity:
            raise UserError(
                f"{raw} holds the set of {shown(found)}, not of {identity!r}: "
                "choose another folder (data.raw=...) or delete this one"
            )
        return
    names = sorted(path.name for path in raw.iterdir()) if raw.exists() else []
    if others := [name for name in names if not OURS.fullmatch(name)]:
        raise UserError(
            f"{raw} holds {', '.join(others[:3])} but no mini.json, so it is not the built-in set: "
            "choose another folder (data.raw=...)"
        )


def _is_finished(raw: Path, plan: list[Clip]) -> bool:
    files = [raw / "annotations_final.csv", *(raw / "mp3" / clip.path for clip in plan)]
    return all(file.exists() for file in files)


def _render(clips: list[Clip], seed: int, mp3_folder: Path, workers: int) -> Iterator[None]:
    """Render all `clips`; yields once for each, as they get ready."""
    if workers == 1 or len(clips) <= 1:
        for clip in clips:
            render_clip(clip, seed, mp3_folder)
            yield
        return
    # Not forked: this process may hold PyTorch's threads, whose locks a fork would leave taken for ever.
    let_children_start()
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(clips)), mp_context=context, initializer=belong_to_parent)
    try:
        with ctrl_c_waits():  # processes that are started meanwhile leave it to their parent
            jobs = [pool.submit(render_clip, clip, seed, mp3_folder) for clip in clips]
        for job in as_completed(jobs):
            yield job.result()
    finally:  # after Ctrl-C as well: the clips at work are completed, and no process is left
        pool.shutdown(wait=True, cancel_futures=True)


def _annotations(plan: list[Clip]) -> str:
    """The table of all clips in MTAT's dialect: tab-separated, every field in quotes."""
    table = io.StringIO()
    writer = csv.writer(table, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["clip_id", *TAGS, "mp3_path"])
    for clip_id, clip in enumerate(plan, 1):
        writer.writerow([clip_id, *(int(tag in clip.tags) for tag in TAGS), clip.path])
    return table.getvalue()
