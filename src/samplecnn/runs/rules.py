"""What each value of the configuration may be: for the command line and for files that hold one."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from samplecnn.runs.errors import RunError
from samplecnn.text import is_printable, shown

Record = TypeVar("Record")

# As in `samplecnn.model.architecture`, which loads PyTorch: rules are read before.
SAMPLECNN = "samplecnn"  # the network that is meant where none is named
OF_SAMPLECNN = ("block", "multi", "width")  # what no other network has


@dataclass(frozen=True)
class Rule:
    """What a value may be, in words and as a test."""

    allowed: str
    holds: Callable[[Any], bool]


def _number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max  # neither NaN nor a whole number of 400 digits


def _whole(value: Any) -> bool:
    # As large as PyTorch has them.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _at_least(least: int) -> Rule:
    return Rule(f"a whole number of at least {least}", lambda v: _whole(v) and v >= least)


def _optional(rule: Rule) -> Rule:
    return Rule(f"{rule.allowed}, or null", lambda v: v is None or rule.holds(v))


def _list(words: str, each: Rule, length: int | None = None) -> Rule:
    return Rule(words, lambda v: _is_list(v) and length in (None, len(v)) and all(map(each.holds, v)))


def _range(low: float, high: float, example: str) -> Rule:
    words = f"two numbers from {low:,} to {high:,}, the lower first, such as {example}"
    return Rule(
        words, lambda v: _is_list(v) and len(v) == 2 and all(map(_number, v)) and low <= v[0] <= v[1] <= high
    )


def _one_of(*values: str) -> Rule:
    return Rule("one of " + ", ".join(values), lambda v: isinstance(v, str | int) and str(v) in values)


PRECISIONS = ("auto", "32", "16-mixed", "bf16-mixed")
NUMBER = Rule("a number", _number)
POSITIVE = Rule("a number greater than 0", lambda v: _number(v) and v > 0)
NOT_NEGATIVE = Rule("a number of at least 0", lambda v: _number(v) and v >= 0)
UNIT = Rule("null or a number from 0 to 1", lambda v: _number(v) and 0 <= v <= 1)
SHARE = Rule("a number from 0 up to, but not including, 1", lambda v: _number(v) and 0 <= v < 1)
PROBABILITY = Rule("a number from 0 to 1", lambda v: _number(v) and 0 <= v <= 1)
COUNT = _at_least(1)
WHOLE = _at_least(0)
FLAG = Rule("true or false", lambda v: isinstance(v, bool))
AUTO_FLAG = Rule("auto, true or false", lambda v: v == "auto" or isinstance(v, bool))
PRINTABLE = Rule("a printable text", lambda v: isinstance(v, str) and bool(v) and is_printable(v))
OBJECT = Rule("an object", lambda v: isinstance(v, Mapping))
TEXT = Rule("a text that is not empty", lambda v: isinstance(v, str) and bool(v.strip()))
NAME = Rule(
    "a name of letters, digits, '.', '_' and '-'",
    lambda v: isinstance(v, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*", v, re.ASCII) is not None,
)
RATE = Rule("a whole number of 1,000 to 1,000,000 Hz", lambda v: _whole(v) and 1_000 <= v <= 1_000_000)
SHA256 = Rule("a SHA-256", lambda v: re.fullmatch("[0-9a-f]{64}", str(v)) is not None)
LEVELS = Rule("a list of names of levels", lambda v: _is_list(v) and bool(v) and all(map(NAME.holds, v)))

RULES: dict[str, Rule] = {
    "multi": FLAG,
    "width": COUNT,
    "dropout": SHARE,
    "weight_decay": NOT_NEGATIVE,
    "label_smoothing": SHARE,
    "running_statistics": _one_of("average", "keras"),
    "recipe": _optional(NAME),
    "optimizer.name": _one_of("keras_sgd", "adamw"),
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.betas": _list("two numbers from 0 up to, but not including, 1, such as [0.9,0.999]", SHARE, 2),
    "average.name": _one_of("none", "ema", "swa"),
    "average.decay": SHARE,
    "average.start": SHARE,
    "rate": _optional(RATE),
    "batch_size": _at_least(2),
    "scale_rate": FLAG,
    "fast": AUTO_FLAG,
    "seed": Rule("a whole number from 0 to 4294967295", lambda v: _whole(v) and 0 <= v < 2**32),
    "init": Rule("null or a model", lambda v: v is None or TEXT.holds(v)),
    "init_sha256": _optional(SHA256),
    "freeze": Rule(
        "none, features or a whole number of 1 to 9",
        lambda v: v in ("none", "features") or (_whole(v) and 1 <= v <= 9),
    ),
    "features_rate": POSITIVE,
    "probe.levels": LEVELS,
    "probe.hidden": _optional(COUNT),
    "probe.tags": COUNT,
    "probe.of": PRINTABLE,
    "probe.weights": SHA256,
    "probe.source": _optional(PRINTABLE),
    "probe.license": _optional(PRINTABLE),
    "resume": Rule(
        "null or a run folder, which has a config.yaml",
        lambda v: v is None or (isinstance(v, str) and Path(v, "config.yaml").is_file()),
    ),
    "workers": _optional(COUNT),
    "shard": _optional(WHOLE),
    "model.name": NAME,
    "model._target_": TEXT,
    "model.dropout": SHARE,
    "model.res": FLAG,
    "model.original": FLAG,
    "model.mid": COUNT,
    "model.dense": COUNT,
    "model.input": _one_of("mel", "raw"),
    "model.filters": COUNT,
    "block.name": NAME,
    "block._target_": TEXT,
    "block.alpha": POSITIVE,
    "block.dropout": SHARE,
    "data.name": NAME,
    "data.raw": Rule("null or a folder", lambda v: v is None or (isinstance(v, str) and bool(v))),
    "data.root": TEXT,
    "data.top": _optional(COUNT),
    "data.split": TEXT,
    "data.clips": _at_least(16),
    "data.seed": WHOLE,
    "data.excerpt_seconds": _optional(POSITIVE),
    "data.excerpt_start": _one_of("start", "middle"),
    "data.train_clips": _optional(COUNT),
    "data.train_segments": _optional(COUNT),
    "data.random_chunks": _optional(COUNT),
    "data.test_segments": _optional(COUNT),
    "data.resident": AUTO_FLAG,
    "data.vocabulary": Rule(
        "published, or a whole number of at least 1", lambda v: v == "published" or (_whole(v) and v >= 1)
    ),
    "data.threshold": Rule(
        "a number from 0 up to, but not including, 100", lambda v: _number(v) and 0 <= v < 100
    ),
    "data.shares": _list("three numbers greater than 0, such as [75,8,17]", POSITIVE, 3),
    "data.separator": Rule(
        "null, semicolon, comma, slash or pipe",
        lambda v: v in (None, "semicolon", "comma", "slash", "pipe"),
    ),
    "data.dropout": SHARE,
    "data.block_dropout": SHARE,
    "schedule.learning_rate": POSITIVE,
    "schedule.stages": COUNT,
    "schedule.factor": Rule("a number between 0 and 1", lambda v: _number(v) and 0 < v <= 1),
    "schedule.patience": WHOLE,
    "schedule.decay": NOT_NEGATIVE,
    "schedule.warmup": SHARE,
    "schedule.final": SHARE,
    "schedule.weight_decay": NOT_NEGATIVE,
    "schedule.adam_epochs": COUNT,
    "schedule.sgd_epochs": _list("a list of whole numbers of at least 1, such as [20,20,80]", COUNT),
    "schedule.sgd_rates": _list("a list of numbers greater than 0, such as [1e-3,1e-4,1e-5]", POSITIVE),
    "augment.name": NAME,
    "augment.pitch": PROBABILITY,
    "augment.pitch_semitones": _range(-12, 12, "[-2,2]"),
    "augment.delay": PROBABILITY,
    "augment.delay_ms": _range(0, 10_000, "[100,500]"),
    "augment.delay_db": _range(-60, 0, "[-18,-6]"),
    "augment.reverb": PROBABILITY,
    "augment.reverb_seconds": _range(0.01, 10, "[0.2,1.5]"),
    "augment.reverb_wet": _range(0, 1, "[0.1,0.5]"),
    "augment.high_pass": PROBABILITY,
    "augment.high_pass_hz": _range(20, 500_000, "[50,500]"),
    "augment.low_pass": PROBABILITY,
    "augment.low_pass_hz": _range(20, 500_000, "[2000,7500]"),
    "augment.noise": PROBABILITY,
    "augment.noise_snr": _range(-20, 100, "[15,40]"),
    "augment.gain": PROBABILITY,
    "augment.gain_db": _range(-60, 40, "[-6,6]"),
    "augment.polarity": PROBABILITY,
    "augment.mixup": PROBABILITY,
    "augment.mixup_alpha": Rule("a number greater than 0, up to 100", lambda v: _number(v) and 0 < v <= 100),
    "trainer.accelerator": _one_of("auto", "cpu", "cuda"),
    "trainer.devices": COUNT,
    "trainer.num_nodes": COUNT,
    "trainer.strategy": _one_of("auto", "ddp", "ddp_find_unused_parameters_true"),
    "trainer.sync_batchnorm": FLAG,
    "trainer.precision": _one_of(*PRECISIONS),
    "trainer.max_epochs": _optional(COUNT),
    "trainer.save_every_minutes": POSITIVE,
    "trainer.limit_train_batches": _optional(COUNT),
    "trainer.log_every_n_steps": COUNT,
    "logger.name": _one_of("wandb", "csv", "tensorboard", "none"),
}


def flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested objects under dotted keys."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def require(record: Any, names: Sequence[str], where: str, prefix: str = "", absent: str = "") -> None:
    """Raise RunError where one of a record's values is None."""
    for name in names:
        if getattr(record, name) is None:
            raise RunError(f"{where} has no {prefix}{name}{absent}")


def checked(
    record: type[Record], plain: Any, where: str, prefix: str = "", *, absent: str = "", key: str = ""
) -> Record:
    """Return a record of plain values, each of which keeps the rule of its field.

    A field of ``record``, a dataclass, has the rule of ``Annotated[type, rule]``, else that of its name in
    ``RULES``, with ``key`` in front; or it is such a record itself, several in a tuple, or a table of these
    by printable names. Null is allowed where the type has None. What a file holds beside the fields is left
    out. Raises RunError, which names ``where`` and the field with ``prefix`` in front, for a value that
    breaks its rule, and (followed by ``absent``) for none where the field has no default.
    """
    if not isinstance(plain, Mapping):
        raise RunError(f"{where}: {prefix.rstrip('.') or 'it'} is a {type(plain).__name__}, not an object")

    def read(hint: Any, value: Any, name: str) -> Any:
        if is_dataclass(hint):
            of_record: Any = hint
            return checked(of_record, value, where, f"{prefix}{name}.", absent=absent, key=f"{key}{name}.")
        kind, rules = (hint.__origin__, hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())
        records = [part for part in get_args(kind) if _has_records(part)]
        if not (rules or records):
            rules = (RULES[key + name],)
        null = value is None and NoneType in get_args(kind)
        for rule in rules:
            if not (null or rule.holds(value)):
                raise RunError(f"{where}: {prefix}{name}={shown(value)} must be {rule.allowed}")
        if not records:
            return value
        if null:
            return None
        if is_dataclass(records[0]) and get_origin(kind) in (Union, UnionType):
            return read(records[0], value, name)
        if get_origin(kind) is tuple:
            if not isinstance(value, list):
                raise RunError(f"{where}: {prefix}{name} is not a list")
            return tuple(read(records[0], each, name) for each in value)
        for entry in value:
            if not PRINTABLE.holds(entry):
                raise RunError(f"{where}: {prefix}{name} has the name {shown(entry)}, which is not printable")
        return {entry: read(records[0], below, f"{name}.{entry}") for entry, below in value.items()}

    hints = get_type_hints(record, include_extras=True)
    values = {}
    for field in fields(record):  # type: ignore[arg-type]
        if field.name in plain:
            values[field.name] = read(hints[field.name], plain[field.name], field.name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise RunError(f"{where} has no {prefix}{field.name}{absent}")
    return record(**values)


def _has_records(hint: Any) -> bool:
    return is_dataclass(hint) or any(map(_has_records, get_args(hint)))
