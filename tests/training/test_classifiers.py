"""The classifiers of a probe: the regression against scikit-learn's, and what they choose by."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from samplecnn.training.classifiers import (
    KINDS,
    PENALTIES,
    Fitted,
    Labelled,
    Standard,
    fit_linear,
    logistic_regression,
)

FEATURES, TAGS = 12, 3


def made(clips: int, seed: int) -> Labelled:
    """Correlated features of different scales, one of which never changes, and tags that depend on some."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(clips, FEATURES))
    features = latent @ np.random.default_rng(0).normal(size=(FEATURES, FEATURES)) + 3
    features *= np.geomspace(0.01, 10, FEATURES)
    features[:, 5] = 0.7
    labels = latent[:, :TAGS] + 0.8 * rng.normal(size=(clips, TAGS)) > [0.0, 0.5, 1.2]
    return features.astype(np.float32), labels.astype(np.uint8)


def by_scikit_learn(train: Labelled, l2: float, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """What its logistic regression of each tag says, with the same standardised features."""
    standard = Standard(train[0], torch.float64)
    columns = []
    for labels in train[1].T:
        model = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-10, max_iter=10_000)
        model.fit(standard(train[0]).numpy(), labels)
        columns.append(model.predict_proba(standard(features).numpy())[:, 1])
    return np.stack(columns, axis=1)


def predict(fitted: Fitted, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the layers of a classifier say of features as they are."""
    heard = torch.from_numpy(features)
    with torch.no_grad():
        for layer in fitted.layers[:-1]:
            heard = layer(heard).relu()
        said: NDArray[np.float32] = fitted.layers[-1](heard).sigmoid().numpy()
    return said


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_the_regression_is_scikit_learn_s(l2: float) -> None:
    train, test = made(300, 1), made(100, 2)
    standard = Standard(train[0], torch.float64)
    x, y = standard(train[0]), torch.from_numpy(train[1]).double()
    weights, bias, _ = logistic_regression(x, y, l2, x.new_zeros(FEATURES, TAGS), x.new_zeros(TAGS))
    ours = (standard(test[0]) @ weights + bias).sigmoid().numpy()
    np.testing.assert_allclose(ours, by_scikit_learn(train, l2, test[0]), atol=1e-4)


def test_the_penalty_is_the_one_that_the_validation_part_prefers() -> None:
    train, valid, test = made(80, 1), made(200, 2), made(50, 3)
    fitted = fit_linear(train, valid, 0)

    def loss(l2: float) -> float:
        said = by_scikit_learn(train, l2, valid[0])
        return float(-np.log(np.where(valid[1] == 1, said, 1 - said)).mean())

    losses = {l2: loss(l2) for l2 in PENALTIES}
    best = min(losses, key=lambda l2: losses[l2])
    assert PENALTIES[0] > best > PENALTIES[-1]
    assert fitted.chosen == {"l2": best}
    assert fitted.loss == pytest.approx(losses[best], abs=1e-5)
    np.testing.assert_allclose(predict(fitted, test[0]), by_scikit_learn(train, best, test[0]), atol=1e-4)
    assert fitted.parameters == FEATURES * TAGS + TAGS


@pytest.mark.parametrize("kind", KINDS)
def test_they_learn_whatever_the_scales(kind: str) -> None:
    train, valid, test = made(400, 1), made(200, 2), made(200, 3)
    fitted = KINDS[kind](train, valid, 0)
    said = predict(fitted, test[0])
    assert said.dtype == np.float32
    assert ((said > 0.5) == test[1]).mean() > 0.75
    wrong = 1 - test[1][:, :1]  # a tag without any training clip, and one that all have
    odd = (train[0], np.hstack([np.zeros_like(train[1][:, :1]), np.ones_like(train[1][:, :1])]))
    held_out = (test[0], np.hstack([wrong * 0, wrong * 0 + 1]))
    assert np.isfinite(predict(KINDS[kind](odd, held_out, 0), test[0])).all()


def test_the_seed_is_all_that_is_random() -> None:
    train, valid, test = made(100, 1), made(50, 2), made(20, 3)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = (predict(KINDS["mlp"](train, valid, seed), test[0]) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
