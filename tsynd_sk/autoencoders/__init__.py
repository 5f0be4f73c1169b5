"""Autoencoders that are good with few images: principal components, and what is learned beyond.

`PatchPCA` and `DensePCA` are principal component analyses in closed form, whitened, so that one
latent unit is one standard deviation. `PatchAutoencoder` and `DenseAutoencoder` add convolutional
(or dense) residuals whose last layer starts at zero: training starts where the components end.
"""

from tsynd_sk.autoencoders._dense import DenseAutoencoder, DensePCA
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
