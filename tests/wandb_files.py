"""Reads what Weights & Biases stored of an offline run: a LevelDB log of protocol buffer records."""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK = 32768  # bytes; no record header crosses the end of a block
HEADER = struct.Struct("<IHB")  # checksum, length, type
FILE_HEADER = 7  # ":W&B", magic number, version
FULL, FIRST, LAST = 1, 2, 4


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


def payloads(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, parts = FILE_HEADER, b""
    while position < len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER.size:  # padding
            position += left
            continue
        checksum, length, kind = HEADER.unpack_from(data, position)
        position += HEADER.size
        chunk = data[position : position + length]
        assert zlib.crc32(bytes([kind]) + chunk) == checksum
        position += length
        parts = chunk if kind in (FULL, FIRST) else parts + chunk
        if kind in (FULL, LAST):
            yield parts


def read(folder: Path) -> OfflineRun:
    """Read the one ``.wandb`` file of an offline run's folder."""
    (path,) = folder.glob("*.wandb")
    run = OfflineRun(folder)
    for payload in payloads(path):
        record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]  # made at run time
        record.ParseFromString(payload)
        match record.WhichOneof("record_type"):
            case "run":
                run.id, run.name = record.run.run_id, record.run.display_name
                run.group, run.project = record.run.run_group, record.run.project
                run.job_type, run.sweep_id = record.run.job_type, record.run.sweep_id
                run.tags = list(record.run.tags)
                update(run.config, record.run.config.update)
            case "config":
                update(run.config, record.config.update)
            case "history":
                row: dict[str, Any] = {}
                update(row, record.history.item)
                run.history.append(row)
            case "summary":
                update(run.summary, record.summary.update)
            case "request" if record.request.WhichOneof("request_type") == "log_artifact":
                artifact = record.request.log_artifact.artifact
                run.artifacts[artifact.type] = [entry.path for entry in artifact.manifest.contents]
            case "artifact":
                run.artifacts[record.artifact.type] = [e.path for e in record.artifact.manifest.contents]
            case "exit":
                run.exit_code = record.exit.exit_code
    return run


def update(values: dict[str, Any], items: Any) -> None:
    for item in items:
        keys = list(item.nested_key) or [item.key]
        node = values
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = json.loads(item.value_json)


def read_all(run: Path) -> list[OfflineRun]:
    """Read all offline runs that a run folder holds, oldest first."""
    return [read(folder) for folder in sorted(run.glob("wandb/offline-run-*"))]
