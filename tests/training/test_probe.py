"""``samplecnn probe``: on which features, with which numbers, and what it leaves."""

import json
from pathlib import Path

import numpy as np
import pytest

import samplecnn
from inference.models import checkpoint
from samplecnn.analysis.report import make_report
from samplecnn.cli import main
from samplecnn.cli.probe import KINDS as NAMED
from samplecnn.data.store import Store
from samplecnn.errors import UserError
from samplecnn.model.levels import LevelError
from samplecnn.runs.listing import entries
from samplecnn.runs.predictions import read_predictions
from samplecnn.runs.run import read_run
from samplecnn.training.classifiers import KINDS, fit_linear
from samplecnn.training.probe import probe
from training.stores import TAGS, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Of other tags than the store's."""
    return checkpoint(tmp_path / "made.ckpt")


def test_its_numbers_are_those_of_its_features(tmp_path: Path, store: Path, model: Path) -> None:
    results = probe(store, model, tmp_path / "probes/a", name="made", levels=("block9", "last"), split="pons")
    tagger, opened = samplecnn.load(model, precision="32"), Store.open(store)
    selection = opened.select("pons", 50)
    parts = {
        name: np.stack(
            [
                tagger.embed(opened.clip(clip) / np.float32(32768), 22_050, ("block9", "last"))
                for clip in part.clips
            ]
        )
        for name, part in selection.parts.items()
    }
    (file,) = (tmp_path / "probes").glob("embeddings-*.npz")
    with np.load(file, allow_pickle=False) as kept:
        for name, features in parts.items():
            np.testing.assert_allclose(kept[name], features, atol=1e-5)
    train, valid, test = (selection.parts[name] for name in ("train", "valid", "test"))
    fitted = fit_linear((parts["train"], train.labels), (parts["valid"], valid.labels), 0)
    predictions = read_predictions(tmp_path / "probes/a")
    assert predictions is not None
    assert predictions.clip_ids == test.clip_ids
    np.testing.assert_array_equal(predictions.labels, test.labels)
    np.testing.assert_allclose(predictions.probabilities, fitted.predict(parts["test"]), atol=1e-4)
    run = read_run(tmp_path / "probes/a")  # which compares results and predictions
    assert json.dumps(run.results.as_dict()) == json.dumps(results.as_dict())
    assert set(run.tags) == set(TAGS)
    assert run.config.model["levels"] == "block9 last"


def test_kept_embeddings_are_read_if_they_are_sound(
    tmp_path: Path, store: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = probe(store, model, tmp_path / "probes/a", name="made")
    (file,) = (tmp_path / "probes").glob("embeddings-*.npz")
    whole = file.read_bytes()
    with np.load(file) as kept:
        arrays = dict(kept)
    np.savez(file, allow_pickle=False, **{**arrays, "test": arrays["test"][::-1]})
    other = probe(store, model, tmp_path / "probes/b", name="made")
    assert other.test != first.test  # it was read
    for number, damage in enumerate(
        (
            lambda: file.write_bytes(whole[: len(whole) // 2]),
            lambda: np.savez(file, allow_pickle=False, **{**arrays, "test": arrays["test"][1:]}),
            lambda: np.savez(file, allow_pickle=False, **{**arrays, "test": arrays["test"] * np.nan}),
        )
    ):
        damage()
        again = probe(store, model, tmp_path / f"probes/c{number}", name="made")
        assert again.test == first.test
        assert "the embeddings are computed again" in caplog.text
        caplog.clear()
        assert file.read_bytes() == whole
    probe(store, model, tmp_path / "probes/d", name="made", levels=("block1",))
    probe(store, checkpoint(tmp_path / "b.ckpt", "basic"), tmp_path / "probes/e", name="other")
    assert len(list((tmp_path / "probes").glob("embeddings-*.npz"))) == 3


def test_by_command(
    tmp_path: Path,
    store: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tuple(KINDS) == NAMED
    monkeypatch.chdir(tmp_path)
    command = ["probe", str(store), "--model", str(model), "--out"]
    assert main([*command, "probes/linear"]) == 0
    out = capsys.readouterr().out
    assert "macro ROC-AUC" in out
    assert "l2 " in out
    assert main([*command, "probes/mlp", "--kind", "mlp", "--seed", "1"]) == 0
    assert main([*command, "probes/mlp"]) == 1
    assert "is there already: name another folder with --out" in capsys.readouterr().err
    listed = {entry.run: entry for entry in entries(Path("probes"))}
    assert {entry.network for entry in listed.values()} == {"linear-probe", "mlp-probe"}
    assert listed["probes/mlp"].seed == 1
    assert {entry.state for entry in listed.values()} == {"finished"}
    report = make_report(["probes"], tmp_path / "report", draws=20)
    (tables,) = [table for name, table in report.tables if table.name == "table1"][:1]
    shown = {
        record["cell"] for name, table in report.tables if table.name == "table1" for record in table.records
    }
    assert shown == {
        "linear-probe of made levels block7 block8 block9",
        "mlp-probe of made levels block7 block8 block9",
    }
    assert tables.records
    # A probe is no tagger, and not taken for one.
    assert main(["tag", "a.wav", "--model", "probes/linear"]) == 1
    results = json.loads(Path("probes/linear/results.json").read_text())
    assert results["versions"].keys() >= {"samplecnn", "torch", "weights"}


def test_what_cannot_be_probed(
    tmp_path: Path, store: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "probes/a"
    with pytest.raises(LevelError, match="no level 'fc'"):
        probe(store, model, out, name="made", levels=("fc",))
    with pytest.raises(UserError, match="no split 'other'"):
        probe(store, model, out, name="made", split="other")
    assert not out.exists()
    assert not caplog.text
    same = checkpoint(tmp_path / "same.ckpt", data="tiny", split="clean")
    probe(store, same, out, name="same", split="pons")
    assert "same was trained on split clean of this data set" in caplog.text
