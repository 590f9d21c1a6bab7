"""The page without a server of ours: a bundle that any place shows which serves files as they are."""

import shutil
from pathlib import Path

from samplecnn.errors import UserError
from samplecnn.style import STYLE

HERE = Path(__file__).parent
SCRIPTS = ("page.js", "songs.js", "panel.js", "draw.js", "server.js")
RUNTIME = "runtime"
# Of the folder dist/ of onnxruntime-web; the first brings the library's other scripts along.
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
# In a bundle, beside model.onnx and config.json.
PAGE = {name: HERE / name for name in ("index.html", "page.css", *SCRIPTS)} | {"style.css": STYLE}


def require_runtime(folder: Path) -> None:
    """Raise UserError where a folder has not all that the page needs of onnxruntime-web."""
    for name in RUNTIME_FILES:
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} has no {name}: name the folder dist/ of the npm package onnxruntime-web"
            )


def write_page(folder: Path, runtime: Path | None) -> None:
    """Write the page into a bundle; ``runtime``, where it is there, has the files of onnxruntime-web."""
    for name, file in PAGE.items():
        shutil.copyfile(HERE / "local.js" if name == "server.js" else file, folder / name)
    (folder / RUNTIME).mkdir()
    if runtime is not None:
        for name in RUNTIME_FILES:
            shutil.copyfile(runtime / name, folder / RUNTIME / name)
