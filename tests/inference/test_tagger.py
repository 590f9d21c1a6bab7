"""Taggers in half precision, of networks of every kind."""

from pathlib import Path

import numpy as np
import pytest
import torch

from samplecnn.inference.known.convert import Converted, architecture
from samplecnn.inference.tagger import Tagger
from samplecnn.model.networks import NETWORKS


@pytest.mark.parametrize("name", ["musicnn", "shortchunk"])
def test_a_spectrogram_needs_single_precision(name: str) -> None:
    """In bfloat16 there is no Fourier transform; the layers behind it compute in it all the same."""
    torch.manual_seed(0)
    network = NETWORKS[name](tags=3).eval()
    model = Converted("", architecture(name, {}, 16_000), network).model(Path("made"), "abc", "mtat", "clean")
    segments = np.random.default_rng(0).uniform(-0.5, 0.5, (2, model.segment_samples)).astype(np.float32)
    single = Tagger(model, torch.device("cpu")).predict_segments(segments)
    half = Tagger(model, torch.device("cpu"), torch.bfloat16).predict_segments(segments)
    np.testing.assert_allclose(half, single, rtol=0, atol=0.01)
    assert not np.array_equal(half, single)
