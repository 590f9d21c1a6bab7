"""The Hub's own client against a server here: what it asks for, what it keeps, and what it is not given."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

import samplecnn
from inference.hub_server import HubServer, Repository, serving
from inference.models import model, put_weights, rewrite
from samplecnn.errors import UserError
from samplecnn.inference.bundle import write_bundle
from samplecnn.inference.hub import pull, push
from samplecnn.inference.locate import local
from samplecnn.runs.bundle import CARD, CONFIG, WEIGHTS
from samplecnn.runs.errors import RunError
from samplecnn.runs.folder import load_model


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A server that the client takes for the Hub, with an empty cache and somebody's token."""
    with serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
        yield server


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(model(tmp_path), tmp_path / "bundle", source="made for a test")
    return tmp_path / "bundle"


def give(hub: HubServer, bundle: Path, name: str = "me/it") -> Repository:
    """Put a bundle on the server."""
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    hub.repositories[name] = Repository(files=files)
    return hub.repositories[name]


def test_push_and_pull(hub: HubServer, bundle: Path, tmp_path: Path) -> None:
    (bundle / "diary.txt").write_text("not of the model")
    assert push(bundle, "me/it") == f"{hub.url}/me/it"
    uploaded = hub.repositories["me/it"]
    assert uploaded.private
    assert uploaded.files == {name: (bundle / name).read_bytes() for name in (CONFIG, WEIGHTS, CARD)}
    assert sum("/commit/" in path for path in hub.asked) == 1
    push(bundle, "hf:me/open", public=True)
    assert not hub.repositories["me/open"].private

    pulled = pull("me/it", tmp_path / "pulled")
    assert {path.name: path.read_bytes() for path in pulled.iterdir()} == uploaded.files
    assert not any(path.is_symlink() for path in pulled.iterdir())
    assert load_model(pulled).description == load_model(bundle).description
    with pytest.raises(RunError, match="is there already"):
        pull("me/it", tmp_path / "pulled")


def test_once_loaded_nothing_is_asked_again(hub: HubServer, bundle: Path) -> None:
    repository = give(hub, bundle)
    folder = local("hf:me/it")
    assert load_model(folder).description == load_model(bundle).description
    assert samplecnn.load("hf:me/it").tags == samplecnn.load(bundle).tags
    # The card is not needed to tag.
    assert not any(path.endswith(CARD) for path in hub.asked)
    first = load_model(folder).sample_rate
    asked = list(hub.asked)
    del hub.repositories["me/it"]
    assert local("hf:me/it") == folder
    assert local(f"hf:me/it@{repository.commit}") == folder
    assert hub.asked == asked
    # What is newer comes by pulling.
    rewrite(bundle, model__sample_rate=first + 1)
    give(hub, bundle)
    assert load_model(local("hf:me/it")).sample_rate == first
    pull("me/it", bundle.with_name("pulled"))
    assert load_model(local("hf:me/it")).sample_rate == first + 1


def test_half_of_a_download_is_none(hub: HubServer, bundle: Path) -> None:
    give(hub, bundle)
    folder = local("hf:me/it")
    (folder / WEIGHTS).unlink()
    asked = len(hub.asked)
    assert load_model(local("hf:me/it")).tags
    assert len(hub.asked) > asked


def test_other_paths_are_left_alone(tmp_path: Path) -> None:
    for path in ("runs/first", "hf/model", tmp_path):
        assert local(path) == Path(path)


@pytest.mark.parametrize(
    "name",
    [
        "hf:",
        "hf:it",
        "hf:a/b/c",
        "hf:../it",
        "hf:me/../x",
        "hf:me/it@",
        "hf:me/it@a b",
        "hf:me/it?x=1",
        "hf:-a/b",
    ],
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UserError, match="is no model on the Hub: write hf:owner/name"):
        local(name)


def test_what_the_hub_does_not_have(hub: HubServer, bundle: Path) -> None:
    with pytest.raises(UserError, match=r"hf:me/nothing: .*404|Repository"):
        local("hf:me/nothing")
    give(hub, bundle, "me/other").files.pop(WEIGHTS)
    with pytest.raises(UserError, match=r"hf:me/other is no samplecnn model: it has no model\.safetensors"):
        local("hf:me/other")


def test_what_is_too_large_is_not_downloaded(hub: HubServer, bundle: Path) -> None:
    give(hub, bundle).sizes[WEIGHTS] = 50 << 30
    with pytest.raises(UserError, match=r"model\.safetensors has 53,687,091,200 bytes; up to"):
        local("hf:me/it")
    assert not any("/resolve/" in path for path in hub.asked)


def test_a_damaged_model_is_not_pulled(hub: HubServer, bundle: Path, tmp_path: Path) -> None:
    repository = give(hub, bundle)
    repository.files[WEIGHTS] = repository.files[WEIGHTS][:-4] + b"\0\0\x80\x3f"
    with pytest.raises(UserError, match="is damaged or was changed"):
        pull("me/it", tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()
    repository.files[CONFIG] = b"{}"
    with pytest.raises(RunError, match="is not of a samplecnn bundle"):
        pull("me/it", tmp_path / "pulled")


def test_what_is_not_pushed(hub: HubServer, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    (bundle / CARD).unlink()
    (bundle / CARD).symlink_to("../secret")
    with pytest.raises(RunError, match="is a link that leaves its folder"):
        push(bundle, "me/it")
    (bundle / CARD).unlink()
    (bundle / WEIGHTS).write_bytes((bundle / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged or was changed"):
        push(bundle, "me/it")
    put_weights(bundle, b"")
    with pytest.raises(RunError, match=r"it has no config\.json"):
        push(tmp_path, "me/it")
    assert hub.asked == []


def test_offline_means_offline(hub: HubServer, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_HUB_OFFLINE=1 in the environment."""
    give(hub, bundle, "me/known")
    give(hub, bundle, "me/unknown")
    folder = local("hf:me/known")
    asked = list(hub.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert local("hf:me/known") == folder
    with pytest.raises(UserError, match=r"hf:me/unknown: .*offline"):
        local("hf:me/unknown")
    with pytest.raises(UserError, match=r"hf:me/known: .*offline"):
        pull("me/known", bundle.with_name("pulled"))
    assert hub.asked == asked


def test_a_hub_that_is_not_there(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"hf:me/it: .*refused"):
        local("hf:me/it")


def test_without_the_client(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for use in (lambda: local("hf:me/it"), lambda: push(bundle, "me/it")):
        with pytest.raises(UserError, match=r'not installed: pip install "samplecnn\[hub\]"'):
            use()
