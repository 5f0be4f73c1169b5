"""Images for autoencoders, and how well these come back."""

import numpy as np
import torch
from sklearn.datasets import load_digits


def smooth_images(n, shape, seed=0):
    """Random images whose neighbouring pixels are alike, between 0 and 1."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    coarse = rng.random((n, channels, -(-height // 3) + 1, -(-width // 3) + 1))
    fine = coarse.repeat(3, 2).repeat(3, 3)[..., :height, :width]
    return (0.9 * fine + 0.1 * rng.random((n, *shape))).astype(np.float32)


def digits_images():
    return (load_digits().images[:, None] / 16).astype(np.float32)


def rmse(a, b):
    return float(np.sqrt(np.mean((np.asarray(a) - np.asarray(b)) ** 2)))


@torch.no_grad()
def reconstruction(autoencoder, X):
    return autoencoder.eval()(torch.as_tensor(X)).numpy()
