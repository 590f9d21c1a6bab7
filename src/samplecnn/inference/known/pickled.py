"""Pickles of tensors, taken apart opcode by opcode instead of being unpickled; untrusted input.

Only what a dictionary of tensors is made of gets a meaning; everything else becomes a ``Foreign`` that keeps
its name. Nothing that a pickle names is looked up, called or imported.
"""

import math
import pickletools
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import torch
from torch import Tensor

MAX_BYTES = 256 << 10  # of a pickle; a network takes 10 to 20 kB
MAX_DIMENSIONS = 8
TYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
}


@dataclass(frozen=True)
class Foreign:
    """Something with a class of its own: its module and name."""

    name: str


@dataclass(frozen=True)
class Storage:
    """Values in a row, of which tensors are views."""

    key: str
    dtype: torch.dtype
    count: int

    def row(self, values: bytes) -> Tensor:
        """Return the values; ValueError for more or fewer."""
        if len(values) != self.count * self.dtype.itemsize:
            raise ValueError(
                f"it is truncated: storage {self.key} has {len(values)} bytes, not {self.count} values"
            )
        empty = torch.empty(0, dtype=self.dtype)
        return torch.frombuffer(bytearray(values), dtype=self.dtype) if values else empty


@dataclass(frozen=True)
class View:
    """A tensor: where its values lie in a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.strides)
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a tensor has a shape or place that is no whole number")
        if len(self.shape) != len(self.strides) or len(self.shape) > MAX_DIMENSIONS:
            raise ValueError(f"a tensor has {len(self.shape)} dimensions and {len(self.strides)} strides")
        steps = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        count = math.prod(self.shape)
        if count and (self.offset + steps >= self.storage.count or count > self.storage.count):
            raise ValueError("a tensor lies outside its values")

    def of(self, row: Tensor) -> Tensor:
        """Return the tensor out of the values of its storage, with memory of its own."""
        if not math.prod(self.shape):
            return torch.empty(self.shape, dtype=row.dtype)
        view = row.as_strided(self.shape, self.strides, self.offset)
        return view.clone(memory_format=torch.contiguous_format)


@dataclass
class Stream:
    """One pickle, from where a file stands to its end; ``storages`` are those that it names."""

    file: BytesIO
    storages: dict[str, Storage] = field(default_factory=dict)
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def value(self) -> Any:
        """Return the object; ValueError, LookupError or TypeError for what makes no sense."""
        start = self.file.tell()
        for opcode, argument, position in pickletools.genops(self.file):
            if position is not None and position - start > MAX_BYTES:
                raise ValueError(f"its description of tensors has more than {MAX_BYTES >> 10} KiB")
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, argument)
        raise EOFError

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE":
                stack.append(argument)
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                stack.append({"EMPTY_TUPLE": (), "EMPTY_LIST": [], "EMPTY_DICT": {}}[name])
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._after_mark() if name == "TUPLE" else self._last(int(name[-1]))))
            case "APPEND" | "APPENDS":
                items = self._last(1) if name == "APPEND" else self._after_mark()
                if isinstance(stack[-1], list):
                    stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._last(2) if name == "SETITEM" else self._after_mark()
                if isinstance(stack[-1], dict):  # by texts alone: a tuple of tuples of ... has no safe hash
                    pairs = zip(items[::2], items[1::2], strict=True)
                    stack[-1].update((key, value) for key, value in pairs if isinstance(key, str))
            case "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL" | "STACK_GLOBAL":
                stack.append(
                    Foreign(argument.replace(" ", ".") if name == "GLOBAL" else ".".join(self._last(2)))
                )
            case "REDUCE" | "NEWOBJ":
                stack.append(_called(*self._last(2)))
            case "BUILD":  # attributes of the object below
                stack.pop()
            case "BINPERSID":
                stack.append(self._persistent(*stack.pop()))
            case _:
                raise ValueError(f"it has the opcode {name}, which weights do not need")

    def _last(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        if len(items) < count:
            raise LookupError
        del self.stack[-count:]
        return items

    def _after_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def _persistent(self, kind: str, what: Foreign, *place: Any) -> Storage | Foreign:
        """Return what lies outside of the pickle: values, or in old files the source code of a class."""
        if kind == "module":
            return what
        key, _device, count, *_ = place
        if kind != "storage" or not isinstance(key, str) or type(count) is not int or count < 0:
            raise ValueError("it names values in a way of its own")
        if what.name not in TYPES:
            raise ValueError(f"it has values of type {what.name}; known are {', '.join(TYPES)}")
        storage = Storage(key, TYPES[what.name], count)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key} has two sizes")
        return storage


def _called(what: Any, arguments: Any) -> Any:
    """Return what a call in a pickle stands for: a dictionary, a tensor, or something foreign."""
    name = what.name if isinstance(what, Foreign) else type(what).__name__
    if name == "collections.OrderedDict" and arguments == ():
        return {}
    if name == "torch._utils._rebuild_tensor_v2":
        storage, offset, shape, strides, *_ = arguments
        if isinstance(storage, Storage):
            return View(storage, offset, tuple(shape), tuple(strides))
    if name == "torch._utils._rebuild_parameter":
        return arguments[0]
    return Foreign(name)
