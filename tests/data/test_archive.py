"""Archives that want more than they should get, and the same files out of every honest one."""

import random
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from samplecnn.data.archive import ArchiveError, unpack

FILES = {
    "0/a.mp3": random.Random(0).randbytes(150_000),
    "0/b, ö.MP3": b"",
    "f/c.mp3": b"three" * 10_000,
}
Entries = Mapping[Any, bytes]  # by name or ZipInfo
UNPACK = """
import resource, sys
from pathlib import Path
from samplecnn.data.archive import unpack
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
parts, folder = [Path(sys.argv[1])], Path(sys.argv[2])
unpack(parts, folder, max_bytes=10**6, max_files=9, suffixes={".mp3"}, progress=False)
"""


def out(
    archive: Path | list[Path], folder: Path, max_bytes: int = 1_000_000, max_files: int = 9
) -> list[str]:
    limits = {"max_bytes": max_bytes, "max_files": max_files}
    parts = [archive] if isinstance(archive, Path) else archive
    return unpack(parts, folder, suffixes={".mp3"}, progress=False, **limits)


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def make_zip(file: Path, entries: Entries, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data, method)
    return file


def parts(file: Path, count: int) -> list[Path]:
    whole = file.read_bytes()
    step = len(whole) // count + 1
    found = []
    for index in range(count):
        found.append(file.with_name(f"{file.name}.{index + 1:03d}"))
        found[-1].write_bytes(whole[index * step : (index + 1) * step])
    return found


def out_of_order(file: Path) -> Path:
    """With a directory that lists the last file first."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
        archive.filelist.reverse()
    return file


def zip64(file: Path) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in FILES.items():
            with archive.open(name, "w", force_zip64=True) as entry:
                entry.write(data)
    return file


HONEST: dict[str, Callable[[Path], Path | list[Path]]] = {
    "zip": lambda folder: make_zip(folder / "a.zip", {"0/": b"", **FILES, "readme.txt": b"hello"}),
    "stored zip": lambda folder: make_zip(folder / "a.zip", FILES, zipfile.ZIP_STORED),
    "zip64": lambda folder: zip64(folder / "a.zip"),
    "zip out of order": lambda folder: out_of_order(folder / "a.zip"),
    "zip in parts": lambda folder: parts(make_zip(folder / "a.zip", FILES), 3),
    "zip in many parts": lambda folder: parts(make_zip(folder / "a.zip", FILES), 200),
}


@pytest.mark.parametrize("kind", HONEST)
def test_the_same_files_from_every_kind(tmp_path: Path, kind: str) -> None:
    archive = HONEST[kind](tmp_path)
    assert sorted(out(archive, tmp_path / "out")) == sorted(FILES)
    assert content(tmp_path / "out") == FILES
    assert sorted(out(archive, tmp_path / "out")) == sorted(FILES)
    assert content(tmp_path / "out") == FILES


def test_what_is_there_is_kept_and_what_is_wrong_replaced(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", FILES)
    out(archive, tmp_path / "out")
    kept, wrong = tmp_path / "out/0/a.mp3", tmp_path / "out/f/c.mp3"
    wrong.write_bytes(b"THREE" * 10_000)
    (tmp_path / "out/0/b, ö.MP3").write_bytes(b"\x9d\x0a\xd9\x6d")  # the CRC of no bytes
    before = kept.stat().st_ino
    out(archive, tmp_path / "out")
    assert content(tmp_path / "out") == FILES
    assert kept.stat().st_ino == before


def test_a_full_disk_keeps_what_is_unpacked(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"f/c.mp3": FILES["f/c.mp3"], "0/a.mp3": FILES["0/a.mp3"]})
    command = [sys.executable, "-c", UNPACK, str(archive), str(tmp_path / "out"), "100000"]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "ArchiveError: cannot unpack" in failed.stderr
    assert "goes on from there" in failed.stderr
    assert content(tmp_path / "out") == {"f/c.mp3": FILES["f/c.mp3"]}
    out(archive, tmp_path / "out")
    assert content(tmp_path / "out") == {name: FILES[name] for name in ("0/a.mp3", "f/c.mp3")}


def link(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    return info


NAMES = ["/abs.mp3", "../up.mp3", "0/../../up.mp3", "C:/a.mp3", "0\\a.mp3", "..\\a.mp3", ".."]
NAMES += ["0/a\n.mp3", "0/\x7f.mp3"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    archive = make_zip(tmp_path / "a.zip", {"good.mp3": b"good", name: b"bad"})
    with pytest.raises(ArchiveError, match="allowed are") as caught:
        out(archive, tmp_path / "out")
    assert str(archive) in str(caught.value)
    assert repr(name) in str(caught.value)
    assert not list(tmp_path.rglob("*.mp3"))
    assert content(tmp_path / "out") == {}  # it is looked through beforehand


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_in_a_zip(tmp_path: Path, kind: int) -> None:
    archive = make_zip(tmp_path / "a.zip", {link("0", kind): b"/etc", "0/passwd.mp3": b"x"})
    with pytest.raises(ArchiveError, match="'0' is a link or a device"):
        out(archive, tmp_path / "out")
    assert content(tmp_path / "out") == {}


def test_a_link_that_lay_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArchiveError, match="leads out of"):
        out(make_zip(tmp_path / "a.zip", FILES), tmp_path / "out")
    assert content(tmp_path / "elsewhere") == {}


def test_limits(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.mp3": bytes(5_000_000), "b.mp3": bytes(5_000_000)})
    assert archive.stat().st_size < 50_000
    with pytest.raises(ArchiveError, match=r"'b\.mp3' brings it to 10,000,000 bytes, allowed are 9,999,999"):
        out(archive, tmp_path / "out", max_bytes=9_999_999)
    with pytest.raises(ArchiveError, match="more than 1 entries"):
        out(archive, tmp_path / "out", max_bytes=10_000_000, max_files=1)
    assert len(out(archive, tmp_path / "out", max_bytes=10_000_000, max_files=2)) == 2


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("again", ["0/a.mp3", "./0/a.mp3", "0//a.mp3"])
def test_repeated_entries(tmp_path: Path, again: str) -> None:
    archive = make_zip(
        tmp_path / "a.zip", {zipfile.ZipInfo("0/a.mp3"): b"one", zipfile.ZipInfo(again): b"two"}
    )
    with pytest.raises(ArchiveError, match="is there twice"):
        out(archive, tmp_path / "out")


def patched(archive: Path, old: bytes, new: bytes, count: int = -1) -> Path:
    whole = archive.read_bytes()
    assert old in whole
    archive.write_bytes(whole.replace(old, new, count))
    return archive


def test_a_size_that_is_a_lie(tmp_path: Path) -> None:
    """A bomb that claims to be small gives what it claims at most; one byte too few is noticed too."""
    true = struct.pack("<L", 5_000_000)
    for claimed in (100, 4_999_999, 5_000_001):
        archive = make_zip(tmp_path / "a.zip", {"a.mp3": bytes(5_000_000)})
        patched(archive, true, struct.pack("<L", claimed))
        with pytest.raises(ArchiveError, match=r"damaged"):
            out(archive, tmp_path / "out", max_bytes=6_000_000)
        assert content(tmp_path / "out") == {}


@pytest.mark.parametrize("place", [0, 40])
def test_entries_that_share_their_bytes(tmp_path: Path, place: int) -> None:
    """As in the bombs that decompress one kernel many times."""
    archive = make_zip(tmp_path / "a.zip", {"a.mp3": bytes(5_000), "b.mp3": bytes(5_000)})
    with zipfile.ZipFile(archive) as opened:
        second = opened.getinfo("b.mp3").header_offset
    where = archive.read_bytes().rindex(struct.pack("<L", second), 0, archive.stat().st_size - 22)
    whole = bytearray(archive.read_bytes())
    whole[where : where + 4] = struct.pack("<L", place)
    archive.write_bytes(whole)
    with pytest.raises(ArchiveError, match="overlaps"):
        out(archive, tmp_path / "out")


def test_encrypted_and_unusual_compression(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.mp3": b"secret"})
    whole = bytearray(archive.read_bytes())
    whole[whole.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(whole)
    with pytest.raises(ArchiveError, match=r"'a\.mp3' is encrypted"):
        out(archive, tmp_path / "out")
    archive = make_zip(tmp_path / "b.zip", {"a.mp3": b"x"}, zipfile.ZIP_LZMA)
    with pytest.raises(ArchiveError, match="compressed by method 14"):
        out(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_truncated_archives(tmp_path: Path, kind: str, share: float) -> None:
    made = HONEST[kind](tmp_path)
    last = made if isinstance(made, Path) else made[-1]
    size = last.stat().st_size
    last.write_bytes(last.read_bytes()[: int(share * size)])
    with pytest.raises(ArchiveError, match="damaged"):
        out(made, tmp_path / "out")


def test_flipped_bytes_never_pass_unnoticed(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", FILES)
    whole = archive.read_bytes()
    for seed in range(40):
        damaged = bytearray(whole)
        damaged[random.Random(seed).randrange(len(whole))] ^= 0xFF
        archive.write_bytes(damaged)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        try:
            out(archive, tmp_path / "out")
        except ArchiveError:
            continue
        # A date, say; or a name that does not end in .mp3 any more.
        assert set(content(tmp_path / "out").values()) <= set(FILES.values())


@pytest.mark.parametrize("data", [b"", b"<html>404</html>" * 100, b"PK", b"\x1f\x8b", b"PK\3\4" + bytes(99)])
def test_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match=r"a\.zip: damaged or no zip archive"):
        out(tmp_path / "a.zip", tmp_path / "out")


def test_a_missing_part(tmp_path: Path) -> None:
    found = parts(make_zip(tmp_path / "a.zip", FILES), 3)
    found[1].unlink()
    with pytest.raises(ArchiveError, match=r"No such file or directory: .*a\.zip\.002"):
        out(found, tmp_path / "out")


def test_a_file_where_a_folder_has_to_be(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"0.mp3": b"x", "0.mp3/a.mp3": b"y"})
    with pytest.raises(ArchiveError, match="cannot unpack"):
        out(archive, tmp_path / "out")
