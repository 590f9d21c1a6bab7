"""From the configuration to a store: the table of data sets, and every error a sentence."""

import shutil
from pathlib import Path

import pytest
import yaml

from data.shaped import write_audio
from samplecnn.data.catalog import CatalogError
from samplecnn.data.datasets import DATASETS, find
from samplecnn.data.store import MANIFEST, Store
from samplecnn.training.config import ConfigError
from samplecnn.training.resume import OWN_TARGETS
from samplecnn.training.stores import describe, make_catalog, prepare_store, training_store, warn_of_top

CONF = Path(__file__).parents[2] / "conf" / "data"
FORMER_MINI = "samplecnn.data.datasets.mini.catalog"  # in the configurations of old runs


def test_configurations_and_table_say_the_same() -> None:
    targets = {file.stem: yaml.safe_load(file.read_text())["catalog"]["_target_"] for file in CONF.iterdir()}
    assert targets == {name: known.catalog for name, known in DATASETS.items()}
    for known in DATASETS.values():
        assert find(known.catalog) is known
        assert known.catalog in OWN_TARGETS["data.catalog"]
    assert find(FORMER_MINI) is DATASETS["mini"]
    assert FORMER_MINI in OWN_TARGETS["data.catalog"]
    assert find("mine.mtat.catalog") is None


def test_configurations_of_old_runs_find_the_built_in_set(mini_raw: Path) -> None:
    made = make_catalog({"_target_": FORMER_MINI, "raw": str(mini_raw), "clips": 16, "seed": 0})
    assert (made.name, len(made.clips)) == ("mini", 16)


def data(root: Path, raw: Path | None = None, name: str = "mine", **catalog: object) -> dict[str, object]:
    options = {"_target_": DATASETS["folder"].catalog, "raw": None if raw is None else str(raw), **catalog}
    return {"root": str(root), "name": name, "raw": options["raw"], "top": None, "catalog": options}


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("mtat", DATASETS["mtat"].catalog, "`samplecnn prepare data=mtat` downloads MagnaTagATune and prep"),
        ("x", DATASETS["mtat"].catalog, "`samplecnn prepare data=mtat data.name=x data.raw=DIR` takes files"),
        (
            "msd",
            DATASETS["msd"].catalog,
            "of the Million Song Dataset: samplecnn prepare data=msd data.raw=D",
        ),
        (
            "x",
            DATASETS["folder"].catalog,
            "your own music: samplecnn prepare data=folder data.name=x data.raw",
        ),
        ("gtzan", "my.gtzan.catalog", "annotations of gtzan: samplecnn prepare data=gtzan data.raw=DIR"),
    ],
)
def test_what_to_do_without_a_store(tmp_path: Path, name: str, target: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare_store(data(tmp_path, name=name, _target_=target))
    assert message in str(caught.value)
    with pytest.raises(ConfigError, match=r"samplecnn prepare data=.* rate=16000"):
        prepare_store(data(tmp_path, name=name, _target_=target), rate=16_000)
    assert not list(tmp_path.iterdir())


def test_what_to_do_with_an_unfinished_store(tmp_path: Path) -> None:
    """It is there, as whoever began it knows."""
    for number in range(6):
        write_audio(tmp_path / f"raw/{('jazz', 'rock')[number % 2]}/{number}.wav", 0.1, seed=number)
    wanted = data(tmp_path, tmp_path / "raw", name="folder", seed=0)
    path = prepare_store(wanted, workers=1)
    (path / MANIFEST).unlink()
    with pytest.raises(ConfigError) as caught:
        prepare_store(wanted | {"raw": None})
    assert str(caught.value) == (
        f"store {path} is not finished: the command that began to prepare it goes on. Give the folder with "
        "the audio and annotations of your own music: samplecnn prepare data=folder data.raw=DIR"
    )


def test_a_data_set_that_can_be_downloaded_is(tmp_path: Path) -> None:
    """Into a folder of its own, where it is already: nothing is asked of the network."""
    raw = tmp_path / "raw" / "mtat"
    rows = "".join(f"{d}\t{int(d, 16) % 2}\t1\t{d}/a.flac\n" for d in "01cdef")
    raw.mkdir(parents=True)
    (raw / "annotations_final.csv").write_text("clip_id\tloud\tslow\tmp3_path\n" + rows)
    (raw / "fetched").touch()
    for digit in "01cdef":
        write_audio(raw / f"mp3/{digit}/a.flac", seed=int(digit, 16))
    wanted = data(tmp_path, name="mtat", _target_=DATASETS["mtat"].catalog) | {"top": 1}
    store = Store.open(prepare_store(wanted, workers=1, fetch=True))
    assert describe(store, wanted) == [
        f"{tmp_path / 'mtat'}: 6 clips, 2 tags, 0 skipped",
        "split clean, top 1 tags: clips 2 train, 1 valid, 3 test",
        "split pons, top 1 tags: clips 2 train, 1 valid, 3 test",
    ]


def test_more_tags_than_there_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(6):
        write_audio(tmp_path / f"raw/{('jazz', 'rock')[number % 2]}/{number}.wav", 0.1, seed=number)
    wanted = data(tmp_path, tmp_path / "raw", seed=0)
    store = Store.open(prepare_store(wanted | {"name": "folder"}, workers=1))
    caplog.clear()
    warn_of_top(store, 2)
    warn_of_top(store, None)
    assert not caplog.records
    lines = describe(store, wanted | {"top": 10_000})
    assert (
        f"data.top=10000: store {store.path} has 2 tags, and all are used (allowed are 1 to 2" in caplog.text
    )
    assert lines[1].startswith("split own, top 2 tags: clips")


def test_the_raw_audio_of_a_resumed_run(tmp_path: Path) -> None:
    """Its catalogue's is what was typed once, perhaps in another folder; ``data.raw`` is where it is now."""
    for number in range(6):
        write_audio(tmp_path / f"raw/{('jazz', 'rock')[number % 2]}/{number}.wav", 0.1, seed=number)
    wanted = data(tmp_path, Path("music"), seed=0) | {"name": "folder", "raw": str(tmp_path / "raw")}
    assert len(Store.open(prepare_store(wanted, workers=1)).clip_ids) == 6


def test_raw_audio_that_is_not_there_beside_a_finished_store(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is all that is needed; a name that was mistyped is still said."""
    for number in range(6):
        write_audio(tmp_path / f"raw/folder/{('jazz', 'rock')[number % 2]}/{number}.wav", 0.1, seed=number)
    wanted = data(tmp_path, tmp_path / "raw" / "folder", name="folder", seed=0)
    path = training_store(wanted, 22_050)
    caplog.clear()
    shutil.rmtree(tmp_path / "raw")  # where data sets lie that nobody named a folder for
    for raw, said in (
        (None, ""),
        (wanted["raw"], ""),
        ("no/where", "data.raw=no/where is no folder here: sto"),
    ):
        assert training_store(wanted | {"raw": raw}, 22_050) == path
        assert said in caplog.text
        assert len(caplog.records) == bool(said)


def not_a_catalogue(raw: str) -> str:
    return raw


def test_errors_of_a_catalogue_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no such data folder"):
        make_catalog({"_target_": DATASETS["folder"].catalog, "raw": str(tmp_path / "nowhere")})
    for options, message in (
        ({"_target_": "no_such.module.catalog"}, "no_such.module.catalog cannot be loaded"),
        ({"_target_": "json.no_such"}, "json.no_such cannot be loaded"),
        ({"_target_": DATASETS["folder"].catalog}, "folder.catalog missing a required argument: 'raw'"),
        (
            {"_target_": DATASETS["mtat"].catalog, "raw": ".", "speed": 2},
            "unexpected keyword argument 'speed'",
        ),
        ({"_target_": f"{__name__}.not_a_catalogue", "raw": "."}, "returns str, not a Catalog"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_catalog(options)
