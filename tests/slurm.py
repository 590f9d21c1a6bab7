"""A stand-in for SLURM on one machine: the commands that start jobs and their tasks, with its environment.

    sbatch FILE, srun [OPTIONS] COMMAND, sacct

An array's jobs run one after the other. A task that fails ends the others of its step, as with
``srun --kill-on-bad-exit``.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

JOB = 7300  # the number of the first job
FIRST_PORT = 15_000  # to which Lightning adds the last four digits of a job's number


def install(folder: Path) -> None:
    """Write the commands into a folder, which has to come first in PATH."""
    folder.mkdir()
    for name in ("sbatch", "srun", "sacct"):
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} {name} "$@"\n')
        command.chmod(0o755)


def sbatch(script: str) -> None:
    """Start a job, and say its number."""
    text = Path(script).read_text()
    asked = dict(re.findall(r"#SBATCH --([\w-]+)=(\S+)", text))
    nodes, per_node = int(asked.get("nodes", 1)), int(asked.get("ntasks-per-node", 1))
    environment = os.environ | {
        "SLURM_JOB_NAME": asked.get("job-name", "job"),
        "SLURM_NTASKS": str(nodes * per_node),
        "SLURM_NTASKS_PER_NODE": str(per_node),
        "SLURM_NNODES": str(nodes),
        "SLURM_JOB_NODELIST": "127.0.0.1",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_CPUS_PER_TASK": "1",
    }
    job = JOB + os.getpid() % 100  # its last digits are the port
    first, _, last = asked.get("array", "-").partition("%")[0].partition("-")
    jobs = [{"SLURM_JOB_ID": str(job)}]
    if first:
        jobs = [
            {
                "SLURM_JOB_ID": str(job + index),
                "SLURM_ARRAY_JOB_ID": str(job),
                "SLURM_ARRAY_TASK_ID": str(index),
            }
            for index in range(int(first), int(last) + 1)
        ]
    print(f"Submitted batch job {job}", flush=True)
    if os.fork():
        return
    os.setsid()
    with Path(os.devnull).open("r+") as nothing:
        for number in range(3):
            os.dup2(nothing.fileno(), number)
    for own in jobs:
        subprocess.run(["bash", script], env=environment | own, check=False)


def srun(arguments: list[str]) -> int:
    """Start the tasks of a step, and wait for them."""
    outputs = {}
    while arguments[0].startswith("-"):
        option = arguments.pop(0)
        if option in ("--output", "--error"):
            outputs[option] = arguments.pop(0)
    job = os.environ.get("SLURM_JOB_ID", "0")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    per_node = int(os.environ["SLURM_NTASKS"]) // int(os.environ["SLURM_NNODES"])
    tasks = []
    for rank in range(int(os.environ["SLURM_NTASKS"])):
        own = {"PROCID": rank, "LOCALID": rank % per_node, "NODEID": rank // per_node, "STEP_ID": 0}
        paths = [re.sub("%[AaJj](_%a)?", job, path).replace("%t", str(rank)) for path in outputs.values()]
        files = [os.open(path, os.O_WRONLY | os.O_CREAT) for path in paths]
        tasks.append(
            subprocess.Popen(
                arguments,
                env=os.environ | {f"SLURM_{name}": str(value) for name, value in own.items()},
                stdout=files[0] if files else None,
                stderr=files[1] if files else None,
            )
        )
    while None in (statuses := [task.poll() for task in tasks]):
        if any(statuses):
            for task in tasks:
                task.kill()
        time.sleep(0.1)
    return max(abs(status or 0) for status in statuses)


if __name__ == "__main__":
    if sys.argv[1] == "sbatch":
        sbatch(sys.argv[2])
    elif sys.argv[1] == "srun":
        sys.exit(srun(sys.argv[2:]))
    else:
        print("JobID|State|NodeList")
