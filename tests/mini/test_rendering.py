"""How the built-in set is rendered: gone on with, never over somebody's own data."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mini.conftest import CLIPS, contents
from samplecnn.errors import UserError
from samplecnn.mini import render_mini


def interrupted(finished: Path, raw: Path, missing: int) -> Path:
    """A copy of the finished set as an interruption leaves it: without annotations and `missing` files."""
    shutil.copytree(finished, raw)
    (raw / "annotations_final.csv").unlink()
    for path in sorted(raw.rglob("*.mp3"))[:: CLIPS // missing][:missing]:
        path.unlink()
    return raw


def running(group: int) -> list[str]:
    """The processes of a group that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:  # ended meanwhile
            continue
        state, _, process_group, *_ = rest.split()
        if int(process_group) == group and state not in "ZX":
            found.append(name)
    return found


@pytest.mark.parametrize("workers", [1, 3])
def test_goes_on_where_it_stopped_with_the_same_bytes(finished: Path, tmp_path: Path, workers: int) -> None:
    raw = interrupted(finished, tmp_path / "raw", missing=4)
    kept = {path: path.stat().st_mtime_ns for path in raw.rglob("*.mp3")}
    render_mini(raw, clips=CLIPS, seed=0, workers=workers)
    assert contents(raw) == contents(finished)
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())


def test_a_finished_set_is_left_alone(finished: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(finished, raw)
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}
    render_mini(raw, clips=CLIPS, seed=0)
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before


def test_a_file_missing_from_a_finished_set_is_rendered_again(finished: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(finished, raw)
    min(raw.rglob("*.mp3")).unlink()
    render_mini(raw, clips=CLIPS, seed=0)
    assert contents(raw) == contents(finished)


# A script, because workers import it too. Its arguments: the folder, and a file; while that is there, a clip
# whose name comes behind it is not written.
RENDER = f"""
import sys, time
from pathlib import Path
import soundfile
from samplecnn.mini import render_mini

written = soundfile.write

def write(file, *arguments, **options):
    while file.stem == sys.argv[3] and Path(sys.argv[2]).exists():
        time.sleep(0.01)
    written(file, *arguments, **options)

soundfile.write = write
if __name__ == "__main__":
    render_mini(Path(sys.argv[1]), clips={CLIPS}, workers=2)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interruption_leaves_no_process_and_no_harm(
    finished: Path, tmp_path: Path, how: signal.Signals
) -> None:
    raw = interrupted(finished, tmp_path / "raw", missing=6)
    there = len(list(raw.rglob("*.mp3")))
    whole, left = ({path.name for path in folder.rglob("*.mp3")} for folder in (finished, raw))
    *_, last = sorted(whole - left)
    script = tmp_path / "script.py"
    script.write_text(RENDER)
    (tmp_path / "held").touch()
    with (tmp_path / "errors").open("w") as errors:
        command = map(str, (sys.executable, script, raw, tmp_path / "held", Path(last).stem))
        process = subprocess.Popen(list(command), stderr=errors, start_new_session=True)
    while len(list(raw.rglob("*.mp3"))) == there:
        assert process.poll() is None
        time.sleep(0.02)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: to all processes
    else:
        process.send_signal(how)
    (tmp_path / "held").unlink()
    assert process.wait() != 0
    while running(process.pid):  # or the test's time is up
        time.sleep(0.02)
    said = (tmp_path / "errors").read_text()
    assert said.count("Traceback") == (how == signal.SIGINT)
    assert not (raw / "annotations_final.csv").exists()
    render_mini(raw, clips=CLIPS, seed=0, workers=2)
    assert contents(raw) == contents(finished)


def test_another_set_in_the_folder_is_refused(finished: Path) -> None:
    before = contents(finished)
    others: list[dict[str, Any]] = [{"clips": CLIPS + 1}, {"clips": CLIPS, "seed": 1}]
    for other in others:
        with pytest.raises(UserError, match=r'"clips": 32.*choose another folder \(data\.raw=\.\.\.\)'):
            render_mini(finished, **other)
    assert contents(finished) == before


@pytest.mark.parametrize("content", ['{"version": 0, "clips": 32, "seed": 0}', '{"version": 0, "cli', ""])
def test_a_set_of_another_composer_is_refused(finished: Path, tmp_path: Path, content: str) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(finished, raw)
    (raw / "mini.json").write_text(content)
    with pytest.raises(UserError, match=rf"holds the set of '{content}', not of '{{\"version\": \d"):
        render_mini(raw, clips=CLIPS, seed=0)


@pytest.mark.parametrize("name", ["annotations_final.csv", "annotations_final.csv.gz", "mp3/a/song.mp3"])
def test_somebody_s_own_data_is_refused_and_not_touched(tmp_path: Path, name: str) -> None:
    file = tmp_path / "raw" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(UserError, match=r"but no mini\.json.*choose another folder"):
        render_mini(tmp_path / "raw", clips=16)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": 15}, "clips=15: needs at least 16"),
        ({"seed": -1}, "seed=-1: must not be negative"),
        ({"workers": 0}, "workers=0: must be at least 1"),
    ],
)
def test_impossible_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        render_mini(tmp_path / "raw", **options)
    assert not (tmp_path / "raw").exists()


def test_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['midirenderer'] = None\n"
        "from pathlib import Path; from samplecnn.mini import render_mini\n"
        "render_mini(Path(sys.argv[1]), clips=16)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "raw"], capture_output=True, text=True, check=False
    )
    assert 'pip install "samplecnn[mini]"' in done.stderr
    assert not (tmp_path / "raw").exists()


def test_the_import_is_light() -> None:
    heavy = "{'torch', 'pretty_midi', 'midirenderer'}"
    program = f"import sys, samplecnn.mini; sys.exit(len({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True)
