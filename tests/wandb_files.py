"""Reads what Weights & Biases stored of an offline run, which it brings no reader for itself.

The file is a log of protocol buffer records, in LevelDB's format: blocks of 32 KiB, in which each piece of a
record has a header of 7 bytes (checksum, length, and whether the record ends with it).
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK = 32768
HEADER = struct.Struct("<IHB")
FILE_HEADER = 7
ENDS = (1, 4)  # a whole record; the last piece of one


@dataclass
class OfflineRun:
    """One ``offline-run-*`` folder."""

    folder: Path
    id: str = ""
    name: str = ""
    group: str = ""
    project: str = ""
    job_type: str = ""
    sweep_id: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, list[str]] = field(default_factory=dict)  # names of files, by type
    exit_code: int | None = None


def payloads(data: bytes) -> Iterator[bytes]:
    position, record = FILE_HEADER, b""
    while position < len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER.size:  # no header crosses the end of a block
            position += left
            continue
        _, length, kind = HEADER.unpack_from(data, position)
        position += HEADER.size
        record += data[position : position + length]
        position += length
        if kind in ENDS:
            yield record
            record = b""


def read(folder: Path) -> OfflineRun:
    """Read the one ``.wandb`` file of an offline run's folder."""
    (path,) = folder.glob("*.wandb")
    run = OfflineRun(folder)
    for payload in payloads(path.read_bytes()):
        record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]  # made at run time
        record.ParseFromString(payload)
        if record.HasField("run"):
            found = record.run
            run.id, run.name, run.group = found.run_id, found.display_name, found.run_group
            run.project, run.job_type, run.sweep_id = found.project, found.job_type, found.sweep_id
            run.tags = list(found.tags)
        elif record.HasField("history"):
            run.history.append(update({}, record.history.item))
        elif record.HasField("exit"):
            run.exit_code = record.exit.exit_code
        elif record.HasField("artifact") or record.request.HasField("log_artifact"):
            logged = record.artifact if record.HasField("artifact") else record.request.log_artifact.artifact
            run.artifacts[logged.type] = [entry.path for entry in logged.manifest.contents]
        update(run.config, [*record.run.config.update, *record.config.update])
        update(run.summary, record.summary.update)
    return run


def update(values: dict[str, Any], items: Any) -> dict[str, Any]:
    for item in items:
        keys = list(item.nested_key) or [item.key]
        node = values
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = json.loads(item.value_json)
    return values


def read_all(run: Path) -> list[OfflineRun]:
    """Read all offline runs that a run folder holds, oldest first."""
    return [read(folder) for folder in sorted(run.glob("wandb/offline-run-*"))]
