"""``samplecnn doctor``: what this machine is, and what training does on it."""

import argparse
import json
import logging
from functools import partial
from typing import Any

from samplecnn.cli.common import named_classes, positive, whole
from samplecnn.runs.rules import PRECISIONS


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor", help="what this machine is, and whether and how fast each way to train works on it"
    )
    parser.add_argument(
        "--block",
        default="se",
        help="of the network to try; of your own NAME=MODULE.CLASS (default: %(default)s)",
    )
    parser.add_argument("--width", type=positive, default=128, help="its width (default: %(default)s)")
    parser.add_argument(
        "--batch-size",
        type=partial(whole, least=2),
        default=23,
        help="segments of a step on a GPU (default: %(default)s)",
    )
    parser.add_argument(
        "--accelerator", choices=("auto", "cpu", "cuda"), default="auto", help="(default: %(default)s)"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="as JSON, to send with a report of a fault")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Print what was found; return 0 where training will work, else 1."""
    from samplecnn import threads
    from samplecnn.memory import keep_freed_memory
    from samplecnn.runs.config import TrainerConfig
    from samplecnn.training.backends.doctor import diagnose, table
    from samplecnn.training.trainer import device_and_precision

    logging.basicConfig(format="%(message)s")  # what is tried, meanwhile
    logging.getLogger("samplecnn").setLevel(logging.INFO)
    keep_freed_memory()
    threads.use_available()
    wanted = TrainerConfig(precision=options.precision, accelerator=options.accelerator)
    device, precision = device_and_precision(wanted, asked="--accelerator cuda")
    own = named_classes("--block", [options.block] if "=" in options.block else [])
    block = next(iter(own), options.block)
    found = diagnose(block, options.width, options.batch_size, device, precision, own)
    print(json.dumps(found, indent=1) if options.json else table(found))
    return 0 if found["works"] else 1
