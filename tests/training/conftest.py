"""What several tests of training have in common."""

from collections.abc import Iterator

import pytest

from training.composing import composing


@pytest.fixture
def hydra() -> Iterator[None]:
    """Hydra composes from `conf/`."""
    with composing():
        yield
