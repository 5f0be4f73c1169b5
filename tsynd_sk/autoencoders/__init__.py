"""Autoencoders that are good with few images: principal components first, then learned detail.

The linear part of both autoencoders is a principal component analysis in closed form, whitened,
so that one latent unit is one standard deviation. Around it lie convolutional (or dense)
residuals whose last layer starts at zero: training starts where the components end.
"""

from tsynd_sk.autoencoders._dense import DenseAutoencoder
from tsynd_sk.autoencoders._net import AutoencoderNet, encode
from tsynd_sk.autoencoders._patch import PatchAutoencoder

__all__ = ["AutoencoderNet", "DenseAutoencoder", "PatchAutoencoder", "encode"]
