"""Images that the tests of corruptions and of scores on them share."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def scene():
    """Twelve colour images (n, 24, 20, 3) with gradients and a bright box, uint8."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:24, 0:20]
    X = np.empty((12, 24, 20, 3))
    for i, image in enumerate(X):
        image[:] = (4 * rows + 3 * columns)[..., None] + rng.uniform(0, 40, 3)
        image[5 + i % 4 : 14, 4:11] += 60
    return X.astype(np.uint8)
