"""``samplecnn probe``: on which features, with which numbers, and what it leaves."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

import samplecnn
from inference.models import checkpoint, rewrite
from samplecnn.analysis.report import make_report
from samplecnn.cli import main
from samplecnn.cli.probe import KINDS as NAMED
from samplecnn.data.datasets import mtat
from samplecnn.data.prepare import prepare
from samplecnn.data.store import Part, Store
from samplecnn.errors import UserError
from samplecnn.inference.bundle import write_bundle
from samplecnn.inference.known.catalog import KNOWN
from samplecnn.inference.tagger import Tagger
from samplecnn.model.levels import LevelError
from samplecnn.runs.bundle import CONFIG
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import load_model
from samplecnn.runs.listing import entries
from samplecnn.runs.predictions import read_predictions
from samplecnn.runs.run import read_run
from samplecnn.runs.weights import encode, sha256
from samplecnn.training.classifiers import KINDS, fit_linear
from samplecnn.training.evaluate import open_subject
from samplecnn.training.probe import probe
from training.stores import TAGS, write_store
from training.test_classifiers import predict

LEVELS = ("block9", "last")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Of other tags than the store's."""
    return checkpoint(tmp_path / "made.ckpt")


def by_segment(tagger: Tagger, store: Store, part: Part) -> list[NDArray[np.float32]]:
    """The embeddings of each clip's segments."""
    clips = [store.clip(clip) / np.float32(32768) for clip in part.clips]
    return [tagger.embed(clip, 22_050, LEVELS, over_time=True) for clip in clips]


def test_its_numbers_are_those_of_its_features(tmp_path: Path, store: Path, model: Path) -> None:
    results = probe(store, model, tmp_path / "probes/a", name="made", levels=LEVELS, split="pons")
    tagger, opened = samplecnn.load(model, precision="32"), Store.open(store)
    selection = opened.select("pons", 50)
    heard = {name: by_segment(tagger, opened, part) for name, part in selection.parts.items()}
    (file,) = (tmp_path / "probes").glob("embeddings-*.npz")
    with np.load(file, allow_pickle=False) as kept:
        for name, embeddings in heard.items():
            np.testing.assert_allclose(kept[name], np.concatenate(embeddings), rtol=1e-4, atol=1e-5)
    train, valid, test = (selection.parts[name] for name in ("train", "valid", "test"))
    fitted = fit_linear(
        (np.concatenate(heard["train"]), train.labels[train.segment_clip]),
        (np.concatenate(heard["valid"]), valid.labels[valid.segment_clip]),
        0,
    )
    expected = np.stack([predict(fitted, embeddings).mean(axis=0) for embeddings in heard["test"]])
    predictions = read_predictions(tmp_path / "probes/a")
    assert predictions is not None
    assert predictions.clip_ids == test.clip_ids
    np.testing.assert_array_equal(predictions.labels, test.labels)
    np.testing.assert_allclose(predictions.probabilities, expected, atol=1e-4)
    run = read_run(tmp_path / "probes/a")  # which compares results and predictions
    assert json.dumps(run.results.as_dict()) == json.dumps(results.as_dict())
    assert set(run.tags) == set(TAGS)
    assert run.config.model["levels"] == "block9 last"
    weights = sha256(encode(load_model(model).network.state_dict()))
    assert run.results.probe_of == f"made, weights {weights[:16]}"


@pytest.fixture(scope="module")
def probed(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small network on the levels of another."""
    folder = tmp_path_factory.mktemp("probed")
    probe(store, checkpoint(folder / "made.ckpt"), folder / "run", name="made", kind="mlp", levels=LEVELS)
    return folder / "run"


def test_it_is_tested_again_with_the_same_numbers(probed: Path) -> None:
    results, predictions = read_run(probed).results, read_predictions(probed)
    again = open_subject(probed).scores()
    assert (again.per_tag, again.roc_auc, again.pr_auc) == (
        results.test.per_tag,
        results.test.roc_auc,
        results.test.pr_auc,
    )
    assert predictions is not None
    subject = open_subject(probed)
    said = subject.clip_means("test")
    np.testing.assert_array_equal(said, predictions.probabilities)


def test_it_tags(store: Path, probed: Path) -> None:
    """The same as its test, in single precision unless something else is asked for."""
    predictions, opened = read_predictions(probed), Store.open(store)
    assert predictions is not None
    clips = [opened.clip(clip) / np.float32(32768) for clip in opened.select("clean", 50).parts["test"].clips]
    tagger = samplecnn.load(probed)
    assert tagger.dtype == torch.float32
    assert tagger.tags == predictions.tags
    assert repr(tagger).startswith(f"Tagger(mlp-probe, 3 tags of tiny, 22050 Hz, {probed}")
    said = np.stack([tagger.predict(clip, 22_050) for clip in clips])
    np.testing.assert_allclose(said, predictions.probabilities, atol=1e-4)
    assert samplecnn.load(probed, precision="bf16").predict(clips[0], 22_050).shape == (3,)
    assert tagger.embed(clips[0], 22_050).shape == (256,)  # what the classifier's last layer hears
    assert tagger.embed(clips[0], 22_050, ["fc"]).shape == (12 + 24,)


def test_a_bundle_of_it(
    tmp_path: Path, store: Path, probed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["thresholds", str(probed)]) == 0
    assert main(["export", str(probed), str(tmp_path / "bundle"), "--draws", "20"]) == 0
    clip = Store.open(store).clip(0) / np.float32(32768)
    one, other = (samplecnn.load(path, precision="32") for path in (probed, tmp_path / "bundle"))
    np.testing.assert_array_equal(one.predict(clip, 22_050), other.predict(clip, 22_050))
    assert one.decide(one.predict(clip, 22_050)) == other.decide(other.predict(clip, 22_050))
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "bundle"), "--data-root", str(store.parent), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["per_tag"] == read_run(probed).results.test.as_dict()["per_tag"]


def test_the_card_says_whose_weights_it_has(
    tmp_path: Path, store: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = KNOWN["mtat-musicnn"]
    write_bundle(load_model(model), tmp_path / "published", source=known.source)
    weights = sha256(encode(load_model(model).network.state_dict()))
    assert main(["probe", str(store), "--model", "published", "--out", "probes/a", "--kind", "mlp"]) == 0
    assert main(["export", "probes/a", "mine", "--draws", "20"]) == 0
    card = Path("mine/README.md").read_text()
    assert "\nlicense: mit\n" in card
    assert "(with a hidden layer of 256 units) that hears block7, block8, block9 of published." in card
    assert f"The network comes from weights (SHA-256 `{weights}`) that were published by Won et al." in card
    assert "the classifier was trained with samplecnn" in card
    assert main(["export", "mine", "again", "--draws", "20"]) == 0
    assert "\nlicense: mit\n" in Path("again/README.md").read_text()
    assert main(["export", "mine", "again", "--force", "--license", "cc0-1.0"]) == 0
    assert "\nlicense: cc0-1.0\n" in Path("again/README.md").read_text()


@pytest.fixture(scope="module")
def bundle(probed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    write_bundle(load_model(probed), folder, source="trained with samplecnn")
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"levels": "last"}, r"model\.probe\.levels='last' must be a list of names"),
        ({"levels": []}, r"model\.probe\.levels=\[\] must be a list of names"),
        ({"levels": ["last", "last"]}, "name one or more, and none twice"),
        ({"levels": ["last", ["last"]]}, r"model\.probe\.levels"),
        ({"levels": ["block9.conv1"]}, "no level 'block9.conv1'"),
        ({"hidden": 0}, r"model\.probe\.hidden=0 must be a whole number of at least 1"),
        ({"hidden": 10**9}, "would hold .* bytes of weights, more than"),
        ({"hidden": 2**70}, r"model\.probe\.hidden=1180\d+ must be a whole number"),
        ({"hidden": 9}, "with shape .*; the network needs"),
        ({"tags": 10**9}, "would hold .* bytes of weights, more than"),
        ({"tags": None}, r"model\.probe\.tags"),
        ({"weights": "ab"}, r"model\.probe\.weights='ab' must be a SHA-256"),
        ({"of": "a\x1b[2J"}, r"model\.probe\.of=.* must be a printable text"),
        ({"license": 3}, r"model\.probe\.license"),
    ],
)
def test_descriptions_are_untrusted(bundle: Path, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    rewrite(other, **{f"model__probe__{key}": value for key, value in change.items()})
    with pytest.raises(RunError, match=words):
        load_model(other)


def test_a_probe_of_a_probe(bundle: Path, store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it is a probe, which has no levels of its own"):
        probe(store, bundle, tmp_path / "run", name="it")
    within = json.loads((bundle / CONFIG).read_text())["model"]["probe"]
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    rewrite(other, model__probe=within | {"probe": within})
    with pytest.raises(RunError, match="a probe of a probe, which there is not"):
        load_model(other)
    rewrite(other, model__probe=[within])
    with pytest.raises(RunError, match=r"model\.probe is a list, not an object"):
        load_model(other)


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
            lambda: np.savez(file, allow_pickle=False, **arrays, more=np.zeros(10_000)),
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
    Path("probes/linear").mkdir(parents=True)  # as one that is killed leaves it
    Path("probes/.linear.lock").touch()
    assert main([*command, "probes/linear"]) == 0
    out = capsys.readouterr().out
    assert "macro ROC-AUC" in out
    assert "l2 " in out
    assert main([*command, "probes/mlp", "--kind", "mlp", "--seed", "1"]) == 0
    left = sorted(Path().rglob("*"))
    for other in ("probes/mlp", "probes", "made.ckpt"):
        assert main([*command, other]) == 1
        assert f"{other} is there already: name another folder with --out" in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == left
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
    results = json.loads(Path("probes/linear/results.json").read_text())
    assert results["versions"].keys() >= {"samplecnn", "torch", "weights"}


def test_what_it_has_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Low and high tones: it says which a file is, of the training part or not; a probe of before cannot."""
    monkeypatch.chdir(tmp_path)
    files = write_tones(tmp_path / "raw")
    store = prepare(mtat.catalog(tmp_path / "raw", "tones"), tmp_path / "stores", workers=1, progress=False)
    model = checkpoint(tmp_path / "made.ckpt")
    assert main(["probe", str(store), "--model", str(model), "--out", "probes/tones"]) == 0
    size = (tmp_path / "probes/tones/checkpoints/best.ckpt").stat().st_size
    assert f"probes/tones: {size:,} bytes of weights, those of made, weights " in capsys.readouterr().out
    assert main(["tag", *map(str, files), "--model", "probes/tones", "--json"]) == 0
    rows = [json.loads(line)["tags"] for line in capsys.readouterr().out.splitlines()]
    assert [max(row, key=row.__getitem__) for row in rows] == ["low", "high"] * (len(files) // 2)
    shutil.rmtree("probes/tones/checkpoints")
    report = make_report(["probes"], tmp_path / "report", draws=20)
    assert "linear-probe of made" in (tmp_path / "report/index.html").read_text()
    assert report.tables
    assert main(["tag", str(files[0]), "--model", "probes/tones"]) == 1
    assert "is a probe of an earlier version, which kept no weights" in capsys.readouterr().err


def write_tones(raw: Path) -> list[Path]:
    """Write clips of two tags, by turns, with some noise; return their paths."""
    rows, files = ["clip_id\tlow\thigh\tmp3_path"], []
    for number, folder in enumerate("00000000ccccdddd"):
        rows.append(f'"{number}"\t"{1 - number % 2}"\t"{number % 2}"\t"{folder}/{number}.wav"')
        files.append(raw / "mp3" / folder / f"{number}.wav")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        tone = np.sin(2 * np.pi * (4000 if number % 2 else 200) * np.arange(130_000) / 22_050)
        noise = np.random.default_rng(number).normal(scale=0.02, size=len(tone))
        soundfile.write(files[-1], 0.3 * tone + noise, 22_050)
    (raw / "annotations_final.csv").write_text("\n".join(rows) + "\n")
    return files


def test_a_folder_is_taken_before_anything_is_computed(tmp_path: Path, store: Path, model: Path) -> None:
    """Of two probes at once in one folder, one has it, and the other ends with a sentence."""
    out = tmp_path / "probes/a"
    with ThreadPoolExecutor(2) as together:
        ends = [together.submit(probe, store, model, out, name="made") for _ in range(2)]
    errors = [error for end in ends if (error := end.exception()) is not None]
    assert [str(error) for error in errors] == [f"{out} is there already: name another folder with --out"]
    assert isinstance(errors[0], UserError)
    assert read_run(out).results.model == "linear-probe"


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
