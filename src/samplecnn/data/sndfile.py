"""Files that libsndfile decodes, from their start to their end."""

from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
import soundfile

from samplecnn.data.view import Part, View


class SndFile(soundfile.SoundFile):
    """A file, or ``parts`` of it, read from its start to its end.

    python-soundfile otherwise seeks after each block, which fails where a file does not state its length.
    """

    def __init__(self, file: BinaryIO, parts: Sequence[Part] | None) -> None:
        super().__init__(file.fileno() if parts is None else View(parts), closefd=False)
        self._failure: soundfile.LibsndfileError | None = None

    def seekable(self) -> bool:
        """Say no: python-soundfile then does not seek."""
        return False

    def read(self, frames: int) -> np.ndarray:
        """Return float32 `(frames, channels)`, less only at the end or before what cannot be decoded.

        Raises LibsndfileError where that comes next.
        """
        if self._failure is not None:
            raise self._failure
        block = np.full((frames, self.channels), np.nan, dtype=np.float32)
        try:
            return super().read(out=block)
        except soundfile.LibsndfileError as error:
            rest = np.isnan(block[:, 0])
            if not rest.any() or rest[0]:
                raise
            self._failure = error  # of the next call: these frames came before it
            return block[: int(np.argmax(rest))]
