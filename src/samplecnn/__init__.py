"""Sample-level CNNs for music auto-tagging from raw waveforms (Kim, Lee and Nam, 2018).

import samplecnn
tagger = samplecnn.load("runs/demo")
probabilities = tagger.predict(waveform, sample_rate)  # in the order of tagger.tags
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samplecnn.inference.tagger import Tagger, load

__all__ = ["Tagger", "__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported when asked for, so that the command line checks its input before PyTorch is loaded.
    if name in ("Tagger", "load"):
        from samplecnn.inference import tagger

        return getattr(tagger, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
