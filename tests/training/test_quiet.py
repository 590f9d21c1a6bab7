"""What is silenced is what the libraries say: a text that they change would be seen again."""

import warnings
from pathlib import Path

import pytest
import pytorch_lightning
import torch

from samplecnn.training.quiet import quiet_libraries

SAID = [
    (pytorch_lightning, "trainer/setup.py", "GPU available but not used"),
    (torch, "_inductor/compile_fx.py", "TensorFloat32 tensor cores for float32 matrix multiplication"),
]


@pytest.mark.parametrize(("library", "file", "text"), SAID)
def test_what_libraries_say_is_silenced(library: object, file: str, text: str) -> None:
    source = Path(str(library.__file__)).parent / file  # type: ignore[attr-defined]
    assert text in source.read_text(encoding="utf-8")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        quiet_libraries()
        warnings.warn(f"{text}, and more", UserWarning, stacklevel=1)
        warnings.warn("another", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["another"]
