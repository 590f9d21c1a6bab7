"""Thresholds: the best by brute force, chosen on the validation clips and never on the test clips."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

import samplecnn
from inference.models import checkpoint
from samplecnn.cli import main
from samplecnn.data.store import Store
from samplecnn.runs.errors import RunError
from samplecnn.runs.thresholds import read_thresholds, write_thresholds
from samplecnn.training.thresholds import best_threshold, choose_thresholds
from training.stores import Clip, prepare_clips, write_run, write_store


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores with many ties."""
    rng = np.random.default_rng(seed)
    truth = rng.random(60) < 0.3
    return truth, (0.3 * truth + rng.random(60)).round(1).astype(np.float32)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_by_brute_force(seed: int) -> None:
    truth, scores = drawn(seed)
    tried = sorted(set(scores.tolist()), reverse=True)
    f1 = {t: f1_score(truth, scores >= np.float32(t)) for t in tried}
    best = best_threshold(truth, scores)
    assert best.threshold == max(f1, key=lambda t: f1[t])
    assert best.f1 == pytest.approx(f1[best.threshold])
    assert best.positives == truth.sum()
    for wanted in (0.3, 0.5, 0.8, 1.0):
        reached = [t for t in tried if precision_score(truth, scores >= np.float32(t)) >= wanted]
        chosen = best_threshold(truth, scores, wanted)
        assert (chosen.threshold is None) == (not reached)
        if chosen.threshold is not None:
            given = scores >= np.float32(chosen.threshold)
            assert chosen.precision == pytest.approx(precision_score(truth, given))
            assert chosen.precision is not None
            assert chosen.precision >= wanted
            assert chosen.recall == pytest.approx(recall_score(truth, given))
            recalls = [recall_score(truth, scores >= np.float32(t)) for t in reached]
            assert chosen.recall == pytest.approx(max(recalls))


def test_what_no_threshold_can_do() -> None:
    scores = np.array([0.9, 0.5, 0.1], np.float32)
    none = best_threshold(np.zeros(3, bool), scores)
    assert (none.threshold, none.f1, none.positives) == (None, None, 0)
    last = best_threshold(np.array([False, False, True]), scores, 0.9)
    assert (last.threshold, last.precision, last.positives) == (None, None, 1)
    assert best_threshold(np.ones(3, bool), scores).threshold == pytest.approx(0.1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def run(tmp_path: Path, store: Path) -> Path:
    return write_run(tmp_path / "run", store)


def test_they_are_of_the_validation_clips(run: Path, store: Path) -> None:
    chosen = choose_thresholds(run)
    tagger = samplecnn.load(run, precision="32")
    opened = Store.open(store)
    valid = opened.select("pons", None).parts["valid"]
    said = np.stack([tagger.predict(opened.clip(clip) / np.float32(32768), 22_050) for clip in valid.clips])
    assert chosen.clips == len(valid.clips) == 5
    for index, tag in enumerate(tagger.tags):
        of_tag, truth = chosen.per_tag[tag], valid.labels[:, index]
        f1 = {t: f1_score(truth, said[:, index] >= t) for t in said[:, index].tolist()}
        assert of_tag.f1 == pytest.approx(max(f1.values()))
        assert of_tag.threshold == pytest.approx(max(f1, key=lambda t: (f1[t], t)), abs=1e-6)
        assert of_tag.positives == truth.sum() > 0


def test_the_test_clips_have_no_say(tmp_path: Path, run: Path, store: Path) -> None:
    """Other audio and labels there change nothing; in the validation part they do."""
    chosen = choose_thresholds(run)
    assert len({of_tag.threshold for of_tag in chosen.per_tag.values()}) > 1
    for parts, same in (("d", True), ("c", False)):
        changed = write_store(tmp_path / parts, changed=parts)
        assert not np.array_equal(Store.open(changed).labels, Store.open(store).labels)
        found = choose_thresholds(run, data_root=changed.parent)
        assert (found == chosen) == same


def test_by_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["thresholds", str(run)]) == 0
    out = capsys.readouterr().out
    assert "the highest F1, on 5 validation clips" in out
    assert str(run / "thresholds.json") in out
    tagger = samplecnn.load(run, precision="32")
    assert tagger.thresholds == choose_thresholds(run)

    # What a bundle carries is the same, and it has no need of the run's checkpoint.
    bundle = tmp_path / "bundle"
    assert main(["export", str(run), str(bundle)]) == 0
    assert samplecnn.load(bundle).thresholds.per_tag == tagger.thresholds.per_tag
    assert main(["export", str(bundle), str(tmp_path / "second")]) == 0
    assert samplecnn.load(tmp_path / "second").thresholds == samplecnn.load(bundle).thresholds

    assert "`--decide` takes the tags that reach their thresholds" in (bundle / "README.md").read_text()
    capsys.readouterr()
    assert main(["thresholds", str(bundle)]) == 1
    assert "is a bundle: choose thresholds in its run" in capsys.readouterr().err
    assert main(["thresholds", str(run), "--precision", "1"]) == 0
    out, err = capsys.readouterr()
    assert "the highest recall at a precision of 1" in out
    again = samplecnn.load(run).thresholds
    reached = [of_tag.precision for of_tag in again.per_tag.values() if of_tag.threshold is not None]
    never = [tag for tag, of_tag in again.per_tag.items() if of_tag.threshold is None]
    assert reached == [1.0] * len(reached)
    assert not never or f"no threshold that reaches it: {', '.join(never)}" in err


def test_a_tag_that_no_validation_clip_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = [
        Clip(name, [number % 2, name != "c"], 60_000, taps=1 + number, seed=number)
        for number, name in enumerate("000ccddd")
    ]
    run = write_run(tmp_path / "run", prepare_clips(tmp_path, ["odd", "elsewhere"], clips))
    assert main(["thresholds", str(run)]) == 0
    assert "never given, since they have no clip there: elsewhere\n" in capsys.readouterr().err


def test_decide(run: Path) -> None:
    tagger = samplecnn.load(run, precision="32")
    with pytest.raises(RunError, match=r"has no thresholds: `samplecnn thresholds .*run` chooses them"):
        tagger.decide(np.zeros(3))
    write_thresholds(run, choose_thresholds(run, precision=0.5))
    lowest = [tagger.thresholds.per_tag[tag].threshold for tag in tagger.tags]
    given = np.array([1.0 if least is None else least for least in lowest])
    reached = [tag for tag, least in zip(tagger.tags, lowest, strict=True) if least is not None]
    decided = tagger.decide(given)
    assert sorted(decided) == sorted(reached)
    by_tag = dict(zip(tagger.tags, given.tolist(), strict=True))
    assert list(decided) == sorted(decided, key=lambda tag: -by_tag[tag])
    assert tagger.decide(given - 1e-6) == ()
    with pytest.raises(ValueError, match=r"probabilities are \(3,\), one per tag, not \(2, 3\)"):
        tagger.decide(np.zeros((2, 3)))


def test_what_is_not_taken(run: Path, tmp_path: Path) -> None:
    chosen = choose_thresholds(run)
    write_thresholds(run, chosen)
    best, file = run / "checkpoints" / "best.ckpt", run / "thresholds.json"
    assert read_thresholds(best, tuple(chosen.per_tag)) == chosen
    with pytest.raises(RunError, match="thresholds of other tags"):
        read_thresholds(best, ("loud",))
    sound = json.loads(file.read_text())
    tag = next(iter(sound["per_tag"]))
    for change, words in (
        ({"per_tag": {tag: {**sound["per_tag"][tag], "threshold": 1.5}}}, "threshold=1.5 must be null or a"),
        ({"per_tag": {"\x1b[2J": sound["per_tag"][tag]}}, "is not printable"),
        ({"per_tag": []}, "must be thresholds by tag"),
        ({"split_hash": None}, "split_hash=None must be a printable text"),
    ):
        file.write_text(json.dumps({**sound, **change}))
        with pytest.raises(RunError, match=words):
            read_thresholds(best, tuple(chosen.per_tag))
    write_thresholds(run, chosen)
    other = checkpoint(tmp_path / "other.ckpt", "basic", tags=list(chosen.per_tag))
    shutil.copy(other, best)
    with pytest.raises(RunError, match="is of other weights than those in"):
        read_thresholds(best, tuple(chosen.per_tag))
