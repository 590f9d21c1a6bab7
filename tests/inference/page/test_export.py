"""The page without a server, as files; `test_browser.py` opens it."""

import re
from pathlib import Path

import pytest

from inference.models import checkpoint, model
from samplecnn.cli import main
from samplecnn.errors import UserError
from samplecnn.inference.bundle import write_bundle
from samplecnn.inference.onnx_export import OnnxFile
from samplecnn.inference.page.export import HERE, PAGE, RUNTIME, RUNTIME_FILES, require_runtime, write_page
from samplecnn.runs.folder import Model


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in (*RUNTIME_FILES, "ort.webgpu.mjs"):
        (folder / name).write_text(name)
    return folder


def test_what_is_written(tmp_path: Path, runtime: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_page(folder, runtime)
    assert {path.name for path in folder.iterdir()} == {*PAGE, RUNTIME}
    assert {path.name for path in (folder / RUNTIME).iterdir()} == set(RUNTIME_FILES)
    assert (folder / "server.js").read_bytes() == (HERE / "local.js").read_bytes()
    text = "".join((folder / name).read_text() for name in PAGE)
    assert "sample-level" not in text  # it shows any network
    assert set(re.findall(r'(?:from|href=|src=) ?"(?:\./)?([\w.]+)"', text)) == set(PAGE) - {"index.html"}


def test_the_server_and_what_takes_its_place_have_the_same_functions() -> None:
    exported = [
        set(
            re.findall(
                r"^export (?:const|(?:async )?function\*?) (\w+)", (HERE / name).read_text(), re.MULTILINE
            )
        )
        for name in ("server.js", "local.js")
    ]
    (taken,) = re.findall(r'import \{ (.*) \} from "./server.js"', (HERE / "page.js").read_text())
    assert exported[0] == exported[1] == set(taken.split(", "))


def test_a_page_is_replaced_with_its_bundle(tmp_path: Path, runtime: Path) -> None:
    made, folder = model(tmp_path), tmp_path / "bundle"

    def page(_model: Model, into: Path) -> list[OnnxFile]:
        write_page(into, runtime)
        return []

    write_bundle(made, folder, source="made", onnx=page)
    assert (folder / "index.html").is_file()
    write_bundle(made, folder, source="made", force=True)
    assert not (folder / "index.html").exists()


def test_a_runtime_that_is_none(tmp_path: Path, runtime: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_runtime(runtime)
    (runtime / RUNTIME_FILES[1]).unlink()
    with pytest.raises(UserError, match="name the folder dist/ of the npm package onnxruntime-web"):
        require_runtime(runtime)
    made = str(checkpoint(tmp_path / "made.ckpt"))
    for options in (["--page"], []):
        assert main(["export", made, str(tmp_path / "out"), *options, "--runtime", str(runtime)]) == 1
    err = capsys.readouterr().err
    assert f"{runtime} has no {RUNTIME_FILES[1]}" in err
    assert "--runtime is for the page: say --page --runtime DIR" in err
    assert not (tmp_path / "out").exists()
