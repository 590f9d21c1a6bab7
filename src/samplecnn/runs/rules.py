"""What each value of the configuration may be: for the command line and for files that hold one."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

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
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _at_least(least: int, *, optional: bool = False) -> Rule:
    words = f"a whole number of at least {least}" + (", or null" if optional else "")
    return Rule(words, lambda v: (optional and v is None) or (_whole(v) and v >= least))


def _range(low: float, high: float, example: str) -> Rule:
    words = f"two numbers from {low:,} to {high:,}, the lower first, such as {example}"
    return Rule(
        words, lambda v: _is_list(v) and len(v) == 2 and all(map(_number, v)) and low <= v[0] <= v[1] <= high
    )


def _one_of(*values: str) -> Rule:
    return Rule("one of " + ", ".join(values), lambda v: isinstance(v, str | int) and str(v) in values)


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
SHA256 = Rule("null or a SHA-256", lambda v: v is None or re.fullmatch("[0-9a-f]{64}", str(v)) is not None)
PRECISIONS = ("auto", "32", "16-mixed", "bf16-mixed")

RULES: dict[str, Rule] = {
    "multi": FLAG,
    "width": COUNT,
    "dropout": SHARE,
    "weight_decay": NOT_NEGATIVE,
    "label_smoothing": SHARE,
    "running_statistics": _one_of("average", "keras"),
    "recipe": Rule(f"null or {NAME.allowed}", lambda v: v is None or NAME.holds(v)),
    "optimizer.name": _one_of("keras_sgd", "adamw"),
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.betas": Rule(
        "two numbers from 0 up to, but not including, 1, such as [0.9,0.999]",
        lambda v: _is_list(v) and len(v) == 2 and all(map(SHARE.holds, v)),
    ),
    "average.name": _one_of("none", "ema", "swa"),
    "average.decay": SHARE,
    "average.start": SHARE,
    "rate": Rule(f"{RATE.allowed}, or null", lambda v: v is None or RATE.holds(v)),
    "batch_size": _at_least(2),
    "scale_rate": FLAG,
    "fast": AUTO_FLAG,
    "seed": Rule("a whole number from 0 to 4294967295", lambda v: _whole(v) and 0 <= v < 2**32),
    "init": Rule("null or a model", lambda v: v is None or TEXT.holds(v)),
    "init_sha256": SHA256,
    "freeze": Rule(
        "none, features or a whole number of 1 to 9",
        lambda v: v in ("none", "features") or (_whole(v) and 1 <= v <= 9),
    ),
    "features_rate": POSITIVE,
    "resume": Rule("null or a run folder", lambda v: v is None or (isinstance(v, str) and Path(v).is_dir())),
    "workers": _at_least(1, optional=True),
    "shard": _at_least(0, optional=True),
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
    "data.top": _at_least(1, optional=True),
    "data.split": TEXT,
    "data.clips": _at_least(16),
    "data.seed": WHOLE,
    "data.excerpt_seconds": Rule(
        "a number greater than 0, or null", lambda v: v is None or POSITIVE.holds(v)
    ),
    "data.excerpt_start": _one_of("start", "middle"),
    "data.train_clips": _at_least(1, optional=True),
    "data.train_segments": _at_least(1, optional=True),
    "data.random_chunks": _at_least(1, optional=True),
    "data.test_segments": _at_least(1, optional=True),
    "data.resident": AUTO_FLAG,
    "data.vocabulary": Rule(
        "published, or a whole number of at least 1", lambda v: v == "published" or (_whole(v) and v >= 1)
    ),
    "data.threshold": Rule(
        "a number from 0 up to, but not including, 100", lambda v: _number(v) and 0 <= v < 100
    ),
    "data.shares": Rule(
        "three numbers greater than 0, such as [75,8,17]",
        lambda v: _is_list(v) and len(v) == 3 and all(map(POSITIVE.holds, v)),
    ),
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
    "schedule.sgd_epochs": Rule(
        "a list of whole numbers of at least 1, such as [20,20,80]",
        lambda v: _is_list(v) and all(map(COUNT.holds, v)),
    ),
    "schedule.sgd_rates": Rule(
        "a list of numbers greater than 0, such as [1e-3,1e-4,1e-5]",
        lambda v: _is_list(v) and all(map(POSITIVE.holds, v)),
    ),
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
    "trainer.max_epochs": _at_least(1, optional=True),
    "trainer.save_every_minutes": POSITIVE,
    "trainer.limit_train_batches": _at_least(1, optional=True),
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
    ``RULES``, with ``key`` in front; or it is such a record itself. Null is allowed where the type has None.
    What a file holds beside the fields is left out. Raises RunError, which names ``where`` and the field with
    ``prefix`` in front, for a value that breaks its rule, and (followed by ``absent``) for none where the
    field has no default.
    """
    if not isinstance(plain, Mapping):
        raise RunError(f"{where}: {prefix.rstrip('.') or 'it'} is a {type(plain).__name__}, not an object")
    hints = get_type_hints(record, include_extras=True)
    values = {}
    for field in fields(record):  # type: ignore[arg-type]
        if field.name in plain:
            value, hint = plain[field.name], hints[field.name]
            below = f"{field.name}."
            if isinstance(hint, type) and is_dataclass(hint):
                value = checked(hint, value, where, prefix + below, absent=absent, key=key + below)
            else:
                annotated = get_origin(hint) is Annotated
                rule: Rule = hint.__metadata__[0] if annotated else RULES[key + field.name]
                null = value is None and NoneType in get_args(hint.__origin__ if annotated else hint)
                if not (null or rule.holds(value)):
                    raise RunError(f"{where}: {prefix}{field.name}={shown(value)} must be {rule.allowed}")
            values[field.name] = value
        elif field.default is MISSING and field.default_factory is MISSING:
            raise RunError(f"{where} has no {prefix}{field.name}{absent}")
    return record(**values)
