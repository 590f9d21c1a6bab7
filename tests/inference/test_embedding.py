"""Embeddings of waveforms and files: what passes through the network, and their mean."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference.models import model, noise
from inference.test_many import noise as song
from samplecnn.data import audio
from samplecnn.data.audio import DecoderProcess
from samplecnn.errors import UserError
from samplecnn.inference import embedding_file
from samplecnn.inference.embedding import with_embeddings
from samplecnn.inference.embedding_file import Embeddings, require_place
from samplecnn.inference.many import listen_to
from samplecnn.inference.tagger import Tagger
from samplecnn.inference.timeline import Timeline
from samplecnn.model.levels import Levels
from samplecnn.runs.folder import Model

RATE = 22_050
ABOUT = {"levels": ["block8", "last"], "widths": [6, 24], "model": "made", "model_hash": "ab"}


@pytest.fixture(scope="module")
def tagger_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tagger(tagger_model: Model) -> Tagger:
    return Tagger(tagger_model, torch.device("cpu"))


@pytest.fixture(scope="module")
def decoders() -> Iterator[list[DecoderProcess]]:
    processes = [DecoderProcess() for _ in range(2)]
    yield processes
    for process in processes:
        process.close()


def by_hand(tagger: Tagger, segments: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the first dense layer of a network hears."""
    seen: list[torch.Tensor] = []
    handle = tagger.network.get_submodule("head_fc1").register_forward_pre_hook(
        lambda _layer, inputs: seen.append(inputs[0])
    )
    tagger.predict_segments(segments)
    handle.remove()
    return seen[0].numpy()


def test_of_a_waveform(tagger: Tagger, tagger_model: Model) -> None:
    waveform = noise(1)[0].repeat(4)[:200_000].numpy()
    expected = by_hand(tagger, audio.segments(waveform))
    over_time = tagger.embed(waveform, RATE, over_time=True)
    assert over_time.shape == (3, 24)  # of width 3: 6 + 6 + 12
    np.testing.assert_array_equal(over_time, expected)
    mean = tagger.embed(waveform, RATE)
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, expected.mean(axis=0), rtol=1e-6)
    half = Tagger(tagger_model, torch.device("cpu"), torch.bfloat16).embed(waveform, RATE)
    assert half.dtype == np.float32
    assert np.abs(half - mean).max() < 0.05 * mean.max()
    turned = tagger.embed(waveform, RATE, ("block9", "block7"))
    np.testing.assert_allclose(turned, np.concatenate([mean[12:], mean[:6]]), rtol=1e-6)
    with pytest.raises(UserError, match="divide 16-bit samples"):
        tagger.embed(np.zeros(60_000, np.int16), RATE)
    with pytest.raises(UserError, match="no level 'block12'"):
        tagger.embed(waveform, RATE, ["block12"])
    with pytest.raises(UserError, match="overlap is 2"):
        tagger.embed(waveform, RATE, overlap=2)


def test_of_a_file(tmp_path: Path, tagger: Tagger) -> None:
    path = song(tmp_path / "a.wav", 9)
    waveform = audio.load(path)
    whole = tagger.embed(waveform, RATE, over_time=True, overlap=0.5)
    np.testing.assert_allclose(tagger.embed_file(path, over_time=True, overlap=0.5), whole, atol=1e-6)
    np.testing.assert_allclose(tagger.embed_file(path, overlap=0.5), whole.mean(axis=0), atol=1e-6)
    assert tagger.timeline(path).embeddings is None


def test_of_many_files(tmp_path: Path, tagger: Tagger, decoders: list[DecoderProcess]) -> None:
    """As each alone, whatever the other worker's file is; the tags are there as well."""
    paths = [song(tmp_path / f"{seed}.wav", 3 + 4 * seed, seed) for seed in range(5)]
    with Levels(tagger.network, ("block8", "last")) as levels:
        assert levels.widths == (6, 24)
        heard = list(listen_to(tagger, paths, decoders, predict=with_embeddings(tagger, levels)))
    for path, file in zip(paths, heard, strict=True):
        assert file.timeline is not None
        assert file.timeline.embeddings is not None
        alone = tagger.embed_file(path, ("block8", "last"), over_time=True)
        np.testing.assert_allclose(file.timeline.embeddings, alone, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            file.timeline.probabilities, tagger.timeline(path).probabilities, atol=1e-6
        )


def write(
    path: Path, songs: list[Path], tagger: Tagger, decoders: list[DecoderProcess], *, over_time: bool
) -> int:
    with (
        Levels(tagger.network, ("block8", "last")) as levels,
        Embeddings(path, over_time=over_time) as embeddings,
    ):
        for heard in listen_to(tagger, songs, decoders, predict=with_embeddings(tagger, levels)):
            if heard.timeline is not None:
                embeddings.add(heard.path, heard.timeline)
        return embeddings.write(ABOUT)


@pytest.mark.parametrize("over_time", [False, True])
def test_the_files(
    tmp_path: Path,
    tagger: Tagger,
    decoders: list[DecoderProcess],
    over_time: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedding_file, "PARQUET_ROWS", 2)
    songs = [song(tmp_path / name, seconds) for name, seconds in (("ä.wav", 9), ("b.wav", 1), ("c.wav", 6))]
    songs.insert(1, tmp_path / "missing.wav")
    there = [path for path in songs if path.exists()]
    alone = [tagger.embed_file(path, ("block8", "last"), over_time=over_time) for path in there]
    expected = np.vstack(alone)
    counts = [3, 1, 2] if over_time else [1, 1, 1]
    starts = [0, 59_049 / RATE, 2 * 59_049 / RATE, 0, 0, 59_049 / RATE]

    out = tmp_path / "out.npz"
    assert write(out, songs, tagger, decoders, over_time=over_time) == sum(counts)
    with np.load(out, allow_pickle=False) as file:
        assert set(file) == {"paths", "embeddings", *ABOUT} | ({"files", "starts"} if over_time else set())
        assert file["paths"].dtype.kind == "U"
        assert file["paths"].tolist() == list(map(str, there))
        assert file["embeddings"].dtype == np.float32
        np.testing.assert_allclose(file["embeddings"], expected, rtol=1e-5, atol=1e-6)
        assert file["levels"].tolist() == ABOUT["levels"]
        assert file["widths"].tolist() == ABOUT["widths"]
        assert str(file["model_hash"]) == "ab"
        if over_time:
            assert file["files"].tolist() == [0, 0, 0, 1, 2, 2]
            np.testing.assert_allclose(file["starts"], starts)

    out = tmp_path / "out.npy"
    write(out, songs, tagger, decoders, over_time=over_time)
    np.testing.assert_allclose(np.load(out, allow_pickle=False), expected, rtol=1e-5, atol=1e-6)
    said = json.loads((tmp_path / "out.npy.json").read_text())
    assert said.items() >= {"paths": list(map(str, there)), **ABOUT}.items()
    if over_time:
        np.testing.assert_allclose(said["starts"], starts)

    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "out.parquet"
    write(out, songs, tagger, decoders, over_time=over_time)
    table = parquet.read_table(out)
    rows = table.to_pydict()
    assert rows["path"] == list(np.repeat(list(map(str, there)), counts))
    np.testing.assert_allclose(np.array(rows["embedding"]), expected, rtol=1e-5, atol=1e-6)
    assert json.loads(table.schema.metadata[b"levels"]) == ABOUT["levels"]
    if over_time:
        np.testing.assert_allclose(rows["start"], starts)
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("ending", [".npz", ".npy"])
def test_memory_does_not_grow(tmp_path: Path, ending: str) -> None:
    """100 MB of embeddings, of which NumPy copies 16 at a time."""
    rows = np.ones((256, 1024), np.float32)
    probabilities, envelope = np.zeros((256, 1), np.float32), np.zeros((2, 1), np.float32)
    song = Timeline(("a",), np.arange(256.0), probabilities, 700.0, 2.7, envelope, rows)
    tracemalloc.start()
    with Embeddings(tmp_path / f"out{ending}", over_time=True) as embeddings:
        for number in range(100):
            embeddings.add(Path(f"{number}.wav"), song)
        embeddings.write({})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / f"out{ending}").stat().st_size > 100 << 20
    assert peak < 24 << 20


def test_what_is_there_stays(tmp_path: Path) -> None:
    for name in ("there.npz", "there.npy.json"):
        (tmp_path / name).write_text("mine")
    for name in ("there.npz", "there.npy"):
        with pytest.raises(UserError, match="is there already, and is left as it is"):
            require_place(tmp_path / name, force=False)
        require_place(tmp_path / name, force=True)
    (tmp_path / "link.npz").symlink_to("nowhere")
    with pytest.raises(UserError, match="is there already"):
        require_place(tmp_path / "link.npz", force=False)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UserError, match="is there already"):
        require_place(tmp_path / "folder.npz", force=True)
    with pytest.raises(UserError, match=r"allowed are \.npz, \.npy, \.parquet"):
        require_place(tmp_path / "a.csv", force=False)
    with pytest.raises(UserError, match="there is no folder"):
        require_place(tmp_path / "no" / "a.npz", force=False)
