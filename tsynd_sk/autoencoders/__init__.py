"""Autoencoders that are good with few images: principal components, and what is learned beyond.

Components are whitened: one latent unit is one standard deviation. Residuals are zero at first, so
that training starts where the components end.
"""

from tsynd_sk.autoencoders._components import DenseAutoencoder, DensePCA
from tsynd_sk.autoencoders._net import AutoencoderNet, encode
from tsynd_sk.autoencoders._patch import PatchAutoencoder, PatchPCA

__all__ = [
    "AutoencoderNet",
    "DenseAutoencoder",
    "DensePCA",
    "PatchAutoencoder",
    "PatchPCA",
    "encode",
]
