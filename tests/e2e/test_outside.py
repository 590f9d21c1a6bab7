"""A wheel, installed into an environment of its own, used from a folder that is no checkout."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import httpx
import pytest

from e2e.conftest import ENDLESS, ROOT, TINY
from e2e.test_tag import noise

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("src", "conf"):
        shutil.copytree(
            ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("*.egg-info")
        )
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(source),
    ]
    subprocess.run(build, check=True)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment with this wheel, and the other packages of the tests' own."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = str(environment / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    # In front of an editable install of the checkout, which those packages may have among them.
    (site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment / "bin"


def environment(home: Path) -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "PYTHON"))}
    return own | {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}


def run(scripts: Path, folder: Path, *arguments: object) -> str:
    command = [str(scripts / "samplecnn"), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start(scripts: Path, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(scripts / "samplecnn"), *map(str, arguments)],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_wheel_has_all_that_is_no_python(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    for path in [*(ROOT / "conf").rglob("*.yaml")]:
        assert packed[f"samplecnn/conf/{path.relative_to(ROOT / 'conf')}"] == path.read_bytes()
    for path in (ROOT / "src").rglob("*"):
        if path.is_file() and path.suffix not in (".pyc",) and "egg-info" not in str(path):
            assert str(path.relative_to(ROOT / "src")) in packed
    assert not any("test" in name.split("/")[0] for name in packed)


def test_train_tag_and_serve(scripts: Path, tmp_path: Path) -> None:
    """With a class and yaml of one's own, a grid of jobs side by side, and the commands that are printed."""
    where = "import samplecnn; print(samplecnn.__file__)"
    installed = subprocess.run(
        [scripts / "python", "-c", where],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert installed.stdout.startswith(str(scripts.parent))
    (tmp_path / "my_blocks.py").write_text(
        "from samplecnn.model.blocks import Basic\nclass Mine(Basic): ...\n"
    )
    (tmp_path / "own" / "block").mkdir(parents=True)
    (tmp_path / "own" / "block" / "mine.yaml").write_text("name: mine\n_target_: my_blocks.Mine\n")
    data = ["data=mini", "data.clips=16", "logger=none", *TINY, "trainer.max_epochs=1"]

    assert "16 clips" in run(scripts, tmp_path, "prepare", "data=mini", "data.clips=16")
    said = run(scripts, tmp_path, "train", "-m", "--config-dir", "own", "block=mine,se", *data,
               "hydra/launcher=local", "hydra.sweep.dir=runs/grid")  # fmt: skip
    assert "mine" in said
    for name in ("0", "1"):
        assert (tmp_path / "runs" / "grid" / name / "results.json").is_file()
    listed = run(scripts, tmp_path, "runs")
    assert listed.count("finished") == 2

    noise(tmp_path / "song.wav", 3)
    assert "%" in run(scripts, tmp_path, "tag", "song.wav", "--model", "runs/grid/1")
    served = start(scripts, tmp_path, "serve", "runs/grid/1", "--port", 0, "--no-browser")
    with served as serving:
        assert serving.stdout is not None
        url = serving.stdout.readline().split()[-4]
        for page in ("", "songs.js", "server.js", "api/models"):
            assert httpx.get(f"{url}{page}", timeout=300, trust_env=False).status_code == 200
        serving.send_signal(signal.SIGINT)
    assert serving.returncode == 0


def test_a_training_that_is_stopped_names_the_command_that_goes_on(scripts: Path, tmp_path: Path) -> None:
    data = ["data=mini", "data.clips=16", "logger=none", *TINY]
    with start(scripts, tmp_path, "train", *data, *ENDLESS, "hydra.run.dir=runs/a") as training:
        assert training.stdout is not None
        while not training.stdout.readline().startswith("epoch"):
            assert training.poll() is None
        training.send_signal(signal.SIGINT)
        said = training.stdout.read()
    assert training.returncode == 130
    assert f"samplecnn train resume={tmp_path / 'runs' / 'a'}" in said
    again = said.partition("samplecnn train ")[2].split()[0]
    done = run(scripts, tmp_path, "train", again, "trainer.max_epochs=1", "logger=none")
    assert "test ROC-AUC" in done
