"""Many files at once: each as it is alone, in their order, whatever is wrong with others."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from inference.models import model
from samplecnn.data.audio import DecoderProcess
from samplecnn.inference.many import AHEAD, SharedBatches, listen_to
from samplecnn.inference.tagger import Tagger

RATE = 22_050


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    return Tagger(model(tmp_path_factory.mktemp("model")), torch.device("cpu"))


@pytest.fixture(scope="module", params=[1, 3])
def decoders(request: pytest.FixtureRequest) -> Iterator[list[DecoderProcess]]:
    processes = [DecoderProcess() for _ in range(request.param)]
    yield processes
    for process in processes:
        process.close()


def noise(path: Path, seconds: float, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    soundfile.write(path, rng.uniform(-0.5, 0.5, round(seconds * RATE)), RATE)
    return path


def test_each_as_it_is_alone(tmp_path: Path, tagger: Tagger, decoders: list[DecoderProcess]) -> None:
    """The long first one does not keep the others from being done; what is broken is said in its place."""
    lengths = [40, *[1 + seed % 7 for seed in range(12)]]
    paths = [noise(tmp_path / f"{seed}.wav", seconds, seed) for seed, seconds in enumerate(lengths)]
    cut = noise(tmp_path / "cut.wav", 6)
    cut.write_bytes(cut.read_bytes()[:100_000])
    (tmp_path / "text.mp3").write_text("no music")
    paths[3:3] = [tmp_path / "text.mp3", tmp_path / "missing.wav", cut]
    heard = list(listen_to(tagger, paths, decoders, overlap=0.5, strict=False))
    assert [file.path for file in heard] == paths
    for file in heard:
        if file.error is not None:
            assert file.path.name in ("text.mp3", "missing.wav")
            assert file.timeline is None
            continue
        assert file.timeline is not None
        assert (file.warning is not None) == (file.path == cut)
        if file.path != cut:
            expected = tagger.timeline(file.path, overlap=0.5)
            np.testing.assert_allclose(file.timeline.probabilities, expected.probabilities, atol=1e-6)
            assert file.timeline.seconds == expected.seconds
        assert file.stamp.size == file.path.stat().st_size
    strict = list(listen_to(tagger, [cut], decoders))
    assert "incomplete" in str(strict[0].error)


def test_a_file_that_kills_its_decoder(
    tmp_path: Path, tagger: Tagger, decoders: list[DecoderProcess]
) -> None:
    """It is named; the others are heard, each by a decoder that is there again."""
    culprit = noise(tmp_path / "culprit.wav", 120)
    paths = [noise(tmp_path / f"{seed}.wav", 3, seed) for seed in range(4)]
    paths.insert(1, culprit)

    def kill(path: Path, done: float, whole: float | None) -> None:
        for process in decoders if path == culprit else ():
            opened = Path(f"/proc/{process.pid}/fd").iterdir()
            if any(link.exists() and link.resolve() == culprit for link in opened):
                os.kill(process.pid, signal.SIGSEGV)

    heard = list(listen_to(tagger, paths, decoders, progress=kill))
    assert [file.path for file in heard if file.error] == [culprit]
    assert "crashes the decoder" in str(heard[1].error)


def test_no_more_than_a_few_are_done_ahead(
    tmp_path: Path, tagger: Tagger, decoders: list[DecoderProcess]
) -> None:
    path = noise(tmp_path / "a.wav", 0.1)
    asked = 0

    class Counted(list[Path]):
        def __iter__(self) -> Iterator[Path]:
            nonlocal asked
            for one in super().__iter__():
                asked += 1
                yield one

    files = listen_to(tagger, Counted([path] * 1000), decoders)
    next(files)
    assert asked <= 1 + AHEAD * len(decoders)
    files.close()


def test_leaving_before_the_end(tmp_path: Path, tagger: Tagger, decoders: list[DecoderProcess]) -> None:
    """Ends the files that are being listened to, also a long one, and leaves the decoders to others."""
    short, long = noise(tmp_path / "short.wav", 1), noise(tmp_path / "long.wav", 600)
    steps: list[Path] = []
    left = threading.Event()

    def step(path: Path, *_: object) -> None:
        steps.append(path)
        if path == long:
            left.wait()

    files = listen_to(tagger, [short, *[long] * 8], decoders, progress=step)
    assert next(files).path == short
    threading.Timer(0.1, left.set).start()  # while the end is waited for
    files.close()
    assert steps.count(long) < len(decoders) * 600 / 30
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("listen")]
    assert [file.error for file in listen_to(tagger, [short], decoders)] == [None]


def test_what_the_network_raises_is_raised_here(
    tmp_path: Path, tagger: Tagger, decoders: list[DecoderProcess]
) -> None:
    paths = [noise(tmp_path / f"{seed}.wav", 3, seed) for seed in range(4)]
    parameter = list(tagger.network.parameters())[-1]
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.fill_(torch.nan)
    try:
        with pytest.raises(ValueError, match="not finite"):
            list(listen_to(tagger, paths, decoders))
    finally:
        with torch.no_grad():
            parameter.copy_(before)


def test_batches_of_several_threads(tagger: Tagger) -> None:
    """Each thread gets the rows of its own segments, whichever are computed together."""
    rng = np.random.default_rng(0)
    pieces = [rng.uniform(-0.5, 0.5, (1 + n % 4, 59049)).astype(np.float32) for n in range(12)]
    sizes: list[int] = []
    started = threading.Event()

    def predict(segments: NDArray[np.float32]) -> NDArray[np.float32]:
        started.wait()
        sizes.append(len(segments))
        return tagger.predict_segments(segments)

    shared = SharedBatches(predict, 8)
    found: dict[int, NDArray[np.float32]] = {}

    def ask(number: int) -> None:
        found[number] = shared(pieces[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(pieces))]
    for thread in threads:
        thread.start()
    while len(shared._waiting) < len(pieces) - 1:
        assert all(thread.is_alive() for thread in threads)
    started.set()
    for thread in threads:
        thread.join()
    assert sum(sizes) == sum(map(len, pieces))
    assert len(sizes) < len(pieces)
    assert max(sizes) <= 8
    for number, piece in enumerate(pieces):
        np.testing.assert_allclose(found[number], tagger.predict_segments(piece), atol=1e-5)


def test_a_batch_that_fails_fails_for_all_its_threads() -> None:
    class FailedError(Exception):
        pass

    def predict(segments: NDArray[np.float32]) -> NDArray[np.float32]:
        if segments.max() > 1:
            raise FailedError
        return segments[:, :1]

    shared = SharedBatches(predict, 100)
    with pytest.raises(FailedError):
        shared(np.full((2, 3), 2, dtype=np.float32))
    np.testing.assert_array_equal(shared(np.ones((2, 3), dtype=np.float32)), np.ones((2, 1)))


def test_a_tagger_says_what_it_is(tagger: Tagger) -> None:
    assert repr(tagger) == f"Tagger(se, 3 tags of mini, 22050 Hz, {tagger.checkpoint})"
