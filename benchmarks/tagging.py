"""How fast a song on disk is tagged: times as fast as it plays, decoding included.

    python benchmarks/tagging.py                        # five minutes of stereo MP3, one core
    python benchmarks/tagging.py --audio song.flac --json tagging.json

The reference decodes the whole file, resamples it with torchaudio (the same kernel) and gives ten segments
at a time to the network as it is commonly written. Ours is the `predict_file` of `samplecnn.load`, which
listens as `samplecnn tag` does. Beside them the same decoder with the network in onnxruntime, in float32 and
with its convolutions in 8-bit integers (`samplecnn export RUN DIR --onnx --int8`; calibrated on noise here),
and in OpenVINO, where that is installed (`pip install openvino`).

Last, a folder of 36 clips of 29 s with 1 and with 2 workers, each of one thread: on two free cores the second
should be close to twice the first.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torchaudio.transforms import Resample

from measure import (
    Variants,
    Work,
    by_block,
    in_turns,
    machine,
    markdown,
    median_and_range,
    options,
    spread,
    write,
)
from reference import Reference
from samplecnn.data import audio
from samplecnn.data.resampling import KAISER_BEST
from samplecnn.inference.many import listen_to
from samplecnn.inference.onnx_export import INPUT, OUTPUT, write_onnx
from samplecnn.inference.onnx_int8 import quantised
from samplecnn.inference.tagger import BATCH, Tagger
from samplecnn.memory import keep_freed_memory
from samplecnn.runs.description import Description
from samplecnn.runs.folder import Model
from training import TAGS, our_network

SECONDS, RATE = 300, 44_100
CLIPS, WORKERS = 36, (1, 2)


def make_song(path: Path, seconds: int = SECONDS) -> None:
    """Write noise whose loudness changes, which an encoder cannot make much of."""
    rng = np.random.default_rng(0)
    loudness = 0.1 + 0.3 * np.abs(np.sin(np.arange(seconds * RATE) / RATE))
    soundfile.write(path, rng.uniform(-1, 1, (seconds * RATE, 2)) * loudness[:, None], RATE)


def reference(song: str, block: str, width: int) -> Work:
    """Return a song through what people write."""
    network = Reference(block, width, TAGS).eval()

    def work() -> None:
        samples, rate = soundfile.read(song, dtype="float32", always_2d=True)
        mono = torch.from_numpy(samples.mean(axis=1))
        resampled = Resample(rate, audio.SAMPLE_RATE, **KAISER_BEST)(mono)
        count = len(resampled) // audio.SEGMENT_SAMPLES
        segments = resampled[: count * audio.SEGMENT_SAMPLES].view(count, -1)
        with torch.no_grad():
            torch.cat([network(batch).sigmoid() for batch in segments.split(BATCH)]).mean(dim=0)

    return work


def made(block: str, width: int) -> Model:
    """Return a model of random weights."""
    tags = tuple(f"tag {number}" for number in range(TAGS))
    description = Description({"name": block}, True, width, 0.0, tags, audio.SAMPLE_RATE)
    return Model(our_network(block, width).eval(), description, Path("made"))


def ours(song: str, block: str, width: int, dtype: torch.dtype) -> Work:
    """Return a song through the tagger."""
    keep_freed_memory()
    tagger = Tagger(made(block, width), torch.device("cpu"), dtype)

    def work() -> None:
        tagger.predict_file(song)

    return work


def in_onnxruntime(song: str, block: str, width: int, int8: bool) -> Work:
    """Return a song through our decoder and onnxruntime."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with tempfile.TemporaryDirectory() as folder:
        (file,) = write_onnx(made(block, width), Path(folder))
        graph = onnx.load(file.path)
    if int8:
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (4, audio.SEGMENT_SAMPLES))
        graph = quantised(graph, noise.astype(np.float32))
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return decoded(song, lambda batch: session.run([OUTPUT], {INPUT: batch}))


def in_openvino(song: str, block: str, width: int, precision: str) -> Work:
    """Return a song through our decoder and OpenVINO; ``precision`` is its name, such as "f32"."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        (file,) = write_onnx(made(block, width), Path(folder))
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        model = openvino.Core().compile_model(str(file.path), "CPU", settings)
    return decoded(song, lambda batch: model({INPUT: batch}))


def decoded(song: str, compute: Callable[[NDArray[np.float32]], object]) -> Work:
    """Return a song through our decoder, its segments in batches as taggers have them."""

    def work() -> None:
        with audio.Decoder(song) as decoder:
            for batch in audio.frames(audio.stream(decoder), audio.SEGMENT_SAMPLES, BATCH):
                compute(batch)

    return work


def by_workers(clip: Path, block: str, width: int, repeat: int) -> dict[str, dict[str, float]]:
    """Return how many times as fast as they play clips are tagged, by the number of workers, in turns."""
    keep_freed_memory()
    tagger = Tagger(made(block, width), torch.device("cpu"))
    rates: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for turn in range(repeat + 1):  # the first warms up
        for workers in WORKERS:
            torch.set_num_threads(workers)
            with ExitStack() as stack:
                decoders = [stack.enter_context(audio.DecoderProcess()) for _ in range(workers)]
                list(listen_to(tagger, [clip] * workers, decoders))  # they have started
                begun = time.perf_counter()
                list(listen_to(tagger, [clip] * CLIPS, decoders))
                if turn > 0:
                    taken = time.perf_counter() - begun
                    rates[workers].append(CLIPS * audio.CLIP_SECONDS / taken)
    return {f"{CLIPS} clips, workers: {workers}": spread(found) for workers, found in rates.items()}


def table(results: Mapping[str, Any]) -> str:
    """Lay out how many times as fast as it plays the song is tagged, per block and variant."""
    rows = []
    for block, found in by_block(results, "times_real_time").items():
        speeds = found["times_real_time"]
        base = speeds["reference, as it comes"]["median"]
        for name, rate in speeds.items():
            rows.append([block, name, *median_and_range(rate, ".0f"), f"{rate['median'] / base:.2f}"])
    return markdown(["block", "", "times real time", "range", "over the first"], rows)


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__ or "")
    parser.set_defaults(blocks=["se"], device="cpu")
    parser.add_argument("--audio", type=Path, help="instead of noise")
    chosen = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(torch.device("cpu")), "width": chosen.width}
    with tempfile.TemporaryDirectory() as temporary:
        song = chosen.audio or Path(temporary) / "song.mp3"
        if chosen.audio is None:
            make_song(song)
        make_song(clip := Path(temporary) / "clip.mp3", audio.CLIP_SECONDS)
        with audio.Decoder(song) as decoder:
            seconds = sum(map(len, decoder)) / decoder.rate
        results |= {"song_seconds": seconds, "song": song.suffix, "threads": chosen.threads}
        for block in chosen.blocks:
            shape = (str(song), block, chosen.width)
            variants: Variants = {
                "reference, as it comes": (reference, shape),
                "ours, fp32": (ours, (*shape, torch.float32)),
                "ours, bf16": (ours, (*shape, torch.bfloat16)),
                "onnxruntime, fp32": (in_onnxruntime, (*shape, False)),
                "onnxruntime, int8": (in_onnxruntime, (*shape, True)),
            }
            if find_spec("openvino"):
                variants["OpenVINO, fp32"] = (in_openvino, (*shape, "f32"))
                variants["OpenVINO, bf16"] = (in_openvino, (*shape, "bf16"))
            times = in_turns(variants, threads=chosen.threads, repeat=chosen.repeat)
            rates = {name: spread([seconds / second for second in taken]) for name, taken in times.items()}
            rates |= by_workers(clip, block, chosen.width, chosen.repeat)
            results[block] = {"times_real_time": rates}
    print(table(results))
    write(chosen.json, results, table(results))


if __name__ == "__main__":
    main()
