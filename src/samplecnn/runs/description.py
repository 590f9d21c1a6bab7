"""What a checkpoint or bundle says of its network: what it is built of, and what its outputs mean."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from samplecnn.data.resampling import RATES
from samplecnn.runs.errors import RunError
from samplecnn.runs.rules import NAME, TEXT, Rule, checked
from samplecnn.text import shown

FORMAT = 1
MAX_TAGS = 10_000

BLOCK = Rule("an object with a name", lambda v: isinstance(v, Mapping) and NAME.holds(v.get("name")))


def _are_tags(value: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or not 1 <= len(value) <= MAX_TAGS:
        return False
    return all(isinstance(tag, str) and tag for tag in value) and len(set(value)) == len(value)


TAGS = Rule(f"a list of 1 to {MAX_TAGS:,} different names", _are_tags)
RATE = Rule(
    f"a whole number of {RATES[0]:,} to {RATES[1]:,} Hz",
    lambda v: isinstance(v, int) and RATES[0] <= v <= RATES[1],
)


@dataclass(frozen=True)
class Description:
    """A network and the meaning of its outputs, in plain values."""

    block: Annotated[Mapping[str, Any], BLOCK]  # its short name, and options such as alpha
    multi: bool
    width: int
    dropout: float
    tags: Annotated[tuple[str, ...], TAGS]  # in the order of the outputs
    sample_rate: Annotated[int, RATE]  # Hz
    data: Annotated[str | None, TEXT] = None
    split: Annotated[str | None, TEXT] = None
    split_hash: Annotated[str | None, TEXT] = None  # what its scores may be compared with

    @classmethod
    def read(cls, plain: Any, where: str, prefix: str = "") -> "Description":
        """Check the plain values of a file; RunError, which names ``where``, for others."""
        if isinstance(plain, Mapping) and plain.get("format") != FORMAT:
            found = shown(plain.get("format"))
            raise RunError(f"{where} has {prefix}format {found}; this version reads {FORMAT}")
        read = checked(cls, plain, where, prefix)
        return replace(read, block=dict(read.block), tags=tuple(read.tags))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as checkpoints and bundles hold them."""
        return {"format": FORMAT, **asdict(self), "tags": list(self.tags)}
