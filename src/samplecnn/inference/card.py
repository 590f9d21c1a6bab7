"""The model card of a bundle: what the model is, how to use it, what it was tested on, what it cannot do.

Markdown under the front matter that the Hugging Face Hub reads. Names that come from files are escaped.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from samplecnn.inference.onnx_export import AVERAGING, INPUT, OUTPUT, OnnxFile, framing
from samplecnn.model import blocks
from samplecnn.model.networks import NETWORKS
from samplecnn.runs.bundle import ONNX
from samplecnn.runs.description import Description
from samplecnn.runs.results import Results, SplitScores, TagScores
from samplecnn.text import is_printable

# Data sets by the name of their configuration: title, and what to know of them.
DATA = {
    "mtat": (
        "MagnaTagATune",
        "25,863 clips of 29 s of music by Magnatune, tagged by players of a game (Law et al., 2009); "
        "Creative Commons BY-NC-SA 3.0. Its tags overlap (*vocal*, *vocals*, *singing*) and are incomplete: "
        "a clip without a tag may well be what the tag says.",
    ),
    "msd": ("Million Song Dataset", "Tags from Last.fm's listeners (Bertin-Mahieux et al., 2011)."),
    "jamendo": ("MTG-Jamendo", "Tags from those who uploaded the music (Bogdanov et al., 2019)."),
    "mini": ("samplecnn's built-in set", "Music composed by a program, to try things: no benchmark."),
}
SCORES = {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC"}
CITATION = """```bibtex
@inproceedings{kim2018sample,
  title     = {Sample-level {CNN} Architectures for Music Auto-tagging Using Raw Waveforms},
  author    = {Kim, Taejun and Lee, Jongpil and Nam, Juhan},
  booktitle = {IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)},
  year      = {2018}
}
```"""


def write(
    model: Description,
    name: str,
    onnx: Sequence[OnnxFile] = (),
    *,
    source: str,
    results: Results | None = None,
    decides: bool = False,
    license_id: str | None = None,
) -> str:
    """Return the card, with ``name`` as its heading.

    ``source`` says where the weights come from, ``decides`` whether the tags have thresholds.
    """
    parts = [
        front_matter(model, name, results, with_onnx=bool(onnx), license_id=license_id),
        f"# {escaped(name)}",
        *_summary(model, source),
        "## Use",
        *_use(model, decides),
        *(_use_onnx(model, onnx) if onnx else ()),
        "## Data",
        _data(model),
        "## Results",
        *_results(results),
        "## Limits",
        _limits(model, license_id),
        "## Citation",
        CITATION,
    ]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Return a name with everything escaped that Markdown or HTML would take for more than a letter."""
    marked = "".join(f"\\{c}" if c in "\\`*_{}[]()#+!|~:" else c for c in text if is_printable(c))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def front_matter(
    model: Description,
    name: str,
    results: Results | None = None,
    *,
    with_onnx: bool = False,
    license_id: str | None = None,
) -> str:
    """Return what the Hub reads of a card: YAML between two lines of dashes."""
    matter: dict[str, Any] = {
        "library_name": "samplecnn",
        "pipeline_tag": "audio-classification",
        "tags": [
            "music",
            "music-tagging",
            *(["raw-waveform", "sample-level-cnn"] if model.block else [str(model.model["name"])]),
            *(["onnx"] if with_onnx else []),
        ],
    }
    if license_id:
        matter["license"] = license_id
    metrics = [
        {"type": key, "name": f"{title} (mean over tags)", "value": round(value, 4)}
        for key, title in SCORES.items()
        if results is not None and (value := getattr(results.test, key)) is not None
    ]
    if metrics:
        result = {
            "task": {"type": "audio-classification", "name": "Music auto-tagging"},
            "dataset": {
                "type": str(model.data),
                "name": f"{_title(model)} ({model.split})",
                "split": "test",
            },
            "metrics": metrics,
        }
        matter["model-index"] = [{"name": name, "results": [result]}]
    return f"---\n{yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)}---"


def _title(model: Description) -> str:
    name = str(model.data)
    return DATA[name][0] if name in DATA else name


def _summary(model: Description, source: str) -> Iterator[str]:
    kind = f"Says which of {len(model.tags)} tags music has. {_network(model)}"
    yield f"{kind} The weights were {escaped(source)}."
    yield f"Tags: {', '.join(map(escaped, model.tags))}."


def _network(model: Description) -> str:
    block = model.block
    if block is None:
        name, *options = model.words
        known = NETWORKS.get(name)
        title = f"{known.title} after {known.paper}" if known else f"a network called {escaped(name)}"
        return f"A network of the field: {title}{''.join(f', {escaped(option)}' for option in options)}."
    alpha = f" (amplifying ratio {block['alpha']:g})" if "alpha" in block else ""
    kind = escaped(blocks.title(block["name"]))
    levels = "the last three of them joined (multi-level)" if model.multi else "the last one read alone"
    return (
        "A sample-level CNN on the raw waveform after Kim, Lee and Nam (2018): "
        f"nine {kind} blocks{alpha}, {levels}, {model.width} channels in the first."
    )


def _use(model: Description, decides: bool) -> Iterator[str]:
    yield "In this folder, with `samplecnn` installed (tagging needs none of its extras):"
    yield "```sh\nsamplecnn tag song.mp3 --model .\n```"
    yield """```python
import samplecnn

tagger = samplecnn.load(".")
probabilities = tagger.predict(waveform, sample_rate)  # one per tag, in the order of tagger.tags
```"""
    if decides:
        yield (
            "`--decide` takes the tags that reach their thresholds, chosen on validation clips; in "
            "Python `tagger.decide(probabilities)`."
        )
    samples, rate = model.segment_samples, model.sample_rate
    yield (
        f"The network hears segments of {samples:,} samples at {rate:,} Hz ({samples / rate:.1f} s). "
        f"{framing(samples)} {AVERAGING}"
    )


def _use_onnx(model: Description, onnx: Sequence[OnnxFile]) -> Iterator[str]:
    samples = model.segment_samples
    yield "### ONNX"
    rows = ["| file | opset | bytes | difference from PyTorch | allowed |", "| --- " * 5 + "|"]
    for file in onnx:
        cells = (
            f"`{file.path.name}`",
            file.opset,
            f"{file.bytes:,}",
            f"{file.agreement} {file.difference:.1e}",
            file.tolerance,
        )
        rows.append("".join(f"| {cell} " for cell in cells) + "|")
    yield "\n".join(rows)
    yield (
        f"Input `{INPUT}`: float32 (batch, {samples}), any batch. Output `{OUTPUT}`: float32 (batch, "
        f"{len(model.tags)}). Differences are of probabilities. Where they are here: the half-size file "
        "has its weights in 16 bits and computes in 32; the int8 file has its convolutions in 8-bit integers "
        "and was compared on music. Tags, rate, framing and averaging are in the metadata."
    )
    yield f"""```python
import json
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{ONNX}")
tags = json.loads(session.get_modelmeta().custom_metadata_map["tags"])
count = max(1, len(waveform) // {samples})  # waveform: mono, float32, {model.sample_rate:,} Hz
waveform = np.pad(waveform, (0, max(0, {samples} - len(waveform))))
segments = waveform[: count * {samples}].reshape(count, {samples})
probabilities = session.run(None, {{"{INPUT}": segments}})[0].mean(axis=0)
```"""


def _data(model: Description) -> str:
    name = str(model.data)
    known = f" {DATA[name][1]}" if name in DATA else ""
    split_hash = f" (hash `{escaped(model.split_hash)[:16]}`)" if model.split_hash else ""
    return f"{escaped(_title(model))}, split *{escaped(str(model.split))}*{split_hash}.{known}"


def _results(results: Results | None) -> Iterator[str]:
    if results is None:
        yield "Not tested by this project."
        return
    test = results.test
    about = [
        "On the clips of the test split: probabilities averaged over a clip's segments, a score per tag, and "
        "the mean over tags. They cannot be compared with scores on other splits or tags."
    ]
    if results.interval:
        about.append(f"In brackets: {escaped(results.interval)}.")
    if test.undefined:
        about.append(
            "A tag without positive or without negative clips has no score, and no part in the mean."
        )
    seconds = results.train_seconds
    time = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
    about.append(f"Trained for {results.epochs} epochs in {time} ({escaped(results.hardware)}).")
    yield " ".join(about)
    rows = ["| tag | ROC-AUC | PR-AUC | positive clips |", "| --- | --- | --- | --- |"]
    rows.append(f"| **mean** | {_cells(test)} | |")
    ranked = sorted(test.per_tag.items(), key=lambda item: -(item[1].roc_auc or 0))
    rows += [f"| {escaped(tag)} | {_cells(scores)} | {scores.positives} |" for tag, scores in ranked]
    yield "\n".join(rows)


def _cells(scores: SplitScores | TagScores) -> str:
    cells = []
    for key in SCORES:
        value, interval = getattr(scores, key), getattr(scores, f"{key}_interval")
        cell = "undefined" if value is None else f"{value:.4f}"
        cells.append(cell if interval is None else f"{cell} [{interval[0]:.4f}, {interval[1]:.4f}]")
    return " | ".join(cells)


def _limits(model: Description, license_id: str | None) -> str:
    rate = model.sample_rate
    limits = [
        "The probabilities rank music by a tag; they are not calibrated. Choose a threshold per tag, on data "
        "of your own.",
        "It knows the tags above and the music it was trained on. Other music, speech and noise get tags all "
        "the same.",
        f"It hears nothing above {rate / 2:,.0f} Hz, and {model.segment_samples / rate:.1f} s at a time.",
        "The data's own licence may restrict what the weights may be used for."
        if license_id
        else "No licence of the weights is stated.",
    ]
    return "\n".join(f"- {limit}" for limit in limits)
