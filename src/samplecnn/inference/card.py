"""The model card of a bundle: what the model is, how to use it, what it was tested on, what it cannot do.

Markdown (`card.md.j2`) under the front matter that the Hugging Face Hub reads. Names from files are escaped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from samplecnn.inference.onnx_export import AVERAGING, OnnxFile, framing
from samplecnn.model import blocks
from samplecnn.model.networks import NETWORKS
from samplecnn.runs.description import Description, ProbeDescription
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
TEMPLATES = Environment(  # noqa: S701 Markdown, in which `escaped` marks what comes from files
    loader=FileSystemLoader(Path(__file__).parent),
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)


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
    data = str(model.data)
    title, known = DATA.get(data, (data, ""))
    seconds = 0.0 if results is None else results.train_seconds
    return TEMPLATES.get_template("card.md.j2").render(
        matter=front_matter(model, name, title, results, with_onnx=bool(onnx), license_id=license_id),
        model=model,
        name=name,
        network=_network(model),
        classifier=None if model.probe is None else _classifier(model.probe),
        source=source,
        decides=decides,
        samples=model.segment_samples,
        rate=model.sample_rate,
        framing=framing(model.segment_samples),
        averaging=AVERAGING,
        onnx=onnx,
        title=title,
        known=known,
        results=results,
        trained=f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes",
        license_id=license_id,
    )


def escaped(text: str) -> str:
    """Return a name with everything escaped that Markdown or HTML would take for more than a letter."""
    marked = "".join(f"\\{c}" if c in "\\`*_{}[]()#+!|~:" else c for c in text if is_printable(c))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def front_matter(
    model: Description,
    name: str,
    title: str,
    results: Results | None,
    *,
    with_onnx: bool,
    license_id: str | None,
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
        {"type": key, "name": f"{score} (mean over tags)", "value": round(value, 4)}
        for key, score in SCORES.items()
        if results is not None and (value := getattr(results.test, key)) is not None
    ]
    if metrics:
        result = {
            "task": {"type": "audio-classification", "name": "Music auto-tagging"},
            "dataset": {
                "type": str(model.data),
                "name": f"{title} ({model.split})",
                "split": "test",
            },
            "metrics": metrics,
        }
        matter["model-index"] = [{"name": name, "results": [result]}]
    return f"---\n{yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)}---"


def _classifier(probe: ProbeDescription) -> str:
    layers = "a logistic regression per tag"
    if probe.hidden is not None:
        layers = f"with a hidden layer of {probe.hidden} units"
    levels = ", ".join(map(escaped, probe.levels))
    return f"Its tags are said by a classifier ({layers}) that hears {levels} of {escaped(probe.of)}."


def _network(model: Description) -> str:
    block = model.block
    if block is None:
        name, *options = model.network_words
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


def _cells(scores: SplitScores | TagScores) -> str:
    cells = []
    for key in SCORES:
        value, interval = getattr(scores, key), getattr(scores, f"{key}_interval")
        cell = "undefined" if value is None else f"{value:.4f}"
        cells.append(cell if interval is None else f"{cell} [{interval[0]:.4f}, {interval[1]:.4f}]")
    return " | ".join(cells)


TEMPLATES.filters |= {"escaped": escaped, "cells": _cells}
