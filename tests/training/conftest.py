"""What several tests of training have in common."""

from collections.abc import Iterator

import pytest

from training.composing import composing


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No choice of a backend is remembered from before, nor left in the user's memory of choices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def hydra() -> Iterator[None]:
    """Hydra composes from `conf/`."""
    with composing():
        yield
