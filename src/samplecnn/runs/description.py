"""What a checkpoint or bundle says of its network: what it is built of, and what its outputs mean."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

from samplecnn.data.audio import SEGMENT_SAMPLES
from samplecnn.runs.errors import RunError
from samplecnn.runs.rules import COUNT, NAME, OF_SAMPLECNN, RATE, SAMPLECNN, TEXT, Rule, checked, require
from samplecnn.text import shown

FORMAT = 1
PROBES = {False: "linear-probe", True: "mlp-probe"}  # by whether there is a hidden layer: what results say
MAX_TAGS = 10_000

NAMED = Rule("an object with a name", lambda v: isinstance(v, Mapping) and NAME.holds(v.get("name")))


def _are_tags(value: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or not 1 <= len(value) <= MAX_TAGS:
        return False
    return all(isinstance(tag, str) and tag for tag in value) and len(set(value)) == len(value)


TAGS = Rule(f"a list of 1 to {MAX_TAGS:,} different names", _are_tags)


@dataclass(frozen=True, kw_only=True)
class ProbeDescription:
    """A classifier on levels of a network, and where the weights of that network come from."""

    levels: Sequence[str]  # in the order in which they are joined
    hidden: int | None = None  # units; None: a logistic regression per tag
    tags: int  # of the network itself
    of: str  # what that is called
    weights: str  # the SHA-256 of its weights
    source: str | None = None  # where they come from, after "the weights were"
    license: str | None = None  # of them

    @property
    def name(self) -> str:
        """What results call it."""
        return PROBES[self.hidden is not None]


@dataclass(frozen=True)
class Description:
    """A network and the meaning of its outputs, in plain values; defaults are for earlier versions' files."""

    block: Annotated[Mapping[str, Any] | None, NAMED]  # its short name, and options such as alpha
    multi: bool | None
    width: int | None
    dropout: float
    tags: Annotated[tuple[str, ...], TAGS]  # in the order of the outputs
    sample_rate: Annotated[int, RATE]  # Hz
    data: Annotated[str | None, TEXT] = None
    split: Annotated[str | None, TEXT] = None
    split_hash: Annotated[str | None, TEXT] = None  # what its scores may be compared with
    model: Annotated[Mapping[str, Any], NAMED] = field(default_factory=lambda: {"name": SAMPLECNN})
    segment_samples: Annotated[int, COUNT] = SEGMENT_SAMPLES
    probe: ProbeDescription | None = None  # what the tags are of, in place of the network's own last layer

    @classmethod
    def read(cls, plain: Any, where: str, prefix: str = "") -> "Description":
        """Check the plain values of a file; RunError, which names ``where``, for others."""
        if isinstance(plain, Mapping) and plain.get("format") != FORMAT:
            found = shown(plain.get("format"))
            raise RunError(f"{where} has {prefix}format {found}; this version reads {FORMAT}")
        model = plain.get("model") if isinstance(plain, Mapping) else None
        if isinstance(model, Mapping) and model.get("name") != SAMPLECNN:
            plain = {**plain, **dict.fromkeys(OF_SAMPLECNN)}  # whatever it says of them
        probe = plain.get("probe") if isinstance(plain, Mapping) else None
        if isinstance(probe, Mapping) and "probe" in probe:
            raise RunError(f"{where}: {prefix}probe is a probe of a probe, which there is not")
        read = checked(cls, plain, where, prefix)
        if read.model["name"] == SAMPLECNN:
            require(read, OF_SAMPLECNN, where, prefix)
        block = None if read.block is None else dict(read.block)
        return replace(read, block=block, model=dict(read.model), tags=tuple(read.tags))

    @property
    def words(self) -> list[str]:
        """What the model is, in a few words."""
        if self.probe is not None:
            return [self.probe.name, f"of {self.probe.of}", f"levels {' '.join(self.probe.levels)}"]
        return self.network_words

    @property
    def network_words(self) -> list[str]:
        """What the network is, also where a probe hears it."""
        if self.block is not None:
            return [
                self.block["name"],
                "multi-level" if self.multi else "one level",
                f"width {self.width}",
            ]
        options = [f"{key} {value}" for key, value in self.model.items() if key != "name"]
        return [self.model["name"], *options]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as checkpoints and bundles hold them."""
        plain = {"format": FORMAT, **asdict(self), "tags": list(self.tags)}
        if self.probe is None:  # as it was before there were probes
            del plain["probe"]
        return plain
