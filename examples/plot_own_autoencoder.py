"""
How do I use an autoencoder of my own?
======================================

You will learn what an autoencoder must have, how to check a module of your own before you train it,
and how to tell whether its reconstructions are good enough.
"""

# %%
# The images
# ----------
import numpy as np
from sklearn.model_selection import train_test_split

from tsynd_sk.datasets import load_digits_images

X, y, _ = load_digits_images()
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=200, test_size=500, stratify=y, random_state=0
)

# %%
# The module
# ----------
# Two methods are required: ``encode(x)`` turns images, (n, C, H, W), into codes of any shape (n,
# ...), and ``decode(z)`` turns codes back into images of the same shape. ``forward`` does one after
# the other, for training. This module halves the image twice by convolutions.
import torch
from torch import nn


class ConvolutionalAutoencoder(nn.Module):
    def __init__(self, n_latent=6, width=32):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width, n_latent, 3, stride=2, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(n_latent, width, 4, stride=2, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
        )

    def encode(self, x):
        return self.encoder(x)

    def decode(self, z):
        return self.decoder(z)

    def forward(self, x):
        return self.decode(self.encode(x))


# %%
# Check before training
# ---------------------
# Besides the shapes, three things must hold. In evaluation mode, equal images have equal codes. A
# code does not depend on other images in the batch. The decoded image has a gradient with respect
# to its code. The scale of codes does not matter: ``radius`` counts in standard deviations of the
# codes, which the synthesizer measures.
module = ConvolutionalAutoencoder().eval()
x = torch.from_numpy(X_train[:5, None])
z = module.encode(x).detach().requires_grad_()
decoded = module.decode(z)
decoded.sum().backward()
for requirement, holds in {
    "one code for each image": len(z) == len(x),
    "decoded images have the shape of images": decoded.shape == x.shape,
    "equal codes at the second time": torch.equal(module.encode(x), module.encode(x)),
    "codes do not depend on the batch": torch.allclose(module.encode(x[:1]), z[:1], atol=1e-6),
    "a gradient reaches every code": bool((z.grad.flatten(1).abs().sum(1) > 0).all()),
}.items():
    print(f"{requirement:<40} {holds}")
print("values in a code:", z[0].numel(), "of shape", tuple(z.shape[1:]))

# %%
# ``fit`` of the synthesizer raises an error for a module that breaks these rules. This one loses a
# row and a column of pixels:
from skorch import NeuralNet

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.classifiers import NetClassifier


class Cropped(ConvolutionalAutoencoder):
    def decode(self, z):
        return super().decode(z)[..., 1:, 1:]

    def forward(self, x):
        return super().decode(self.encode(x))


classifier = NetClassifier(max_epochs=12, lr=1e-2, module__width=12)
try:
    wrong = NeuralNet(Cropped, criterion=nn.MSELoss, max_epochs=1, verbose=0)
    TargetedSynthesizer(classifier, wrong, random_state=0).fit(X_train, y_train)
except ValueError as error:
    print(error)

# %%
# Two ways to wrap it
# -------------------
# Any skorch net that is fitted by ``fit(X, X)`` will do, as above.
# :class:`~tsynd_sk.autoencoders.AutoencoderNet` is such a net, with a falling learning rate, early
# stopping on a held-out tenth and epochs of a fixed number of images. ``module__`` parameters go to
# your constructor. For comparison we train
# :class:`~tsynd_sk.autoencoders.PatchAutoencoder`, with a code of the same size.
from tsynd_sk.autoencoders import AutoencoderNet, PatchAutoencoder

synthesizers = {
    "your own": TargetedSynthesizer(
        classifier,
        AutoencoderNet(ConvolutionalAutoencoder, module__n_latent=6, max_epochs=8),
        random_state=0,
    ),
    "patches": TargetedSynthesizer(
        classifier,
        AutoencoderNet(PatchAutoencoder, module__n_components=6, module__width=32, max_epochs=8),
        random_state=0,
    ),
}
for synthesizer in synthesizers.values():
    synthesizer.fit(X_train, y_train)

# %%
# Is it good enough?
# ------------------
# ``reconstruct`` encodes and decodes images. Use images that the autoencoder was not trained on.
# Synthetic images keep the detail that the autoencoder loses, but synthesis cannot vary it. So look
# at the error, and at the classifier's predictions for reconstructions. If they are wrong for
# images that it classifies correctly, the autoencoder loses the features that tell the classes
# apart.
reconstructed = {}
for name, synthesizer in synthesizers.items():
    reconstructed[name] = synthesizer.reconstruct(X_test)
    error = np.sqrt(np.square(reconstructed[name] - X_test).mean())
    net = synthesizer.classifier_
    real = net.predict(X_test[:, None]) == y_test
    decoded = net.predict(reconstructed[name][:, None]) == y_test
    print(
        f"{name:<9} root-mean-square error {error:.3f} (pixels of 0 to 1); accuracy on test "
        f"images {real.mean():.3f}, on their reconstructions {decoded.mean():.3f}"
    )

# %%
# The images behind the numbers:
import matplotlib.pyplot as plt

rows = {"test image": X_test, **reconstructed}
fig, axes = plt.subplots(3, 8, figsize=(8, 3.3), layout="constrained")
for line, (name, images) in zip(axes, rows.items(), strict=True):
    line[0].set_ylabel(name)
    for ax, image in zip(line, images, strict=False):
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
plt.show()

# %%
# ``PatchAutoencoder`` starts from principal components of image patches, which a few images
# determine well; a convolutional network has to learn everything. An architecture of your own pays
# off if you know more about the images, or if it is pretrained.
#
# Synthesise with each
# --------------------
# We move the same real images in either latent space, by the same distance in standard deviations
# of the codes.
for name, synthesizer in synthesizers.items():
    X_new, _, info = synthesizer.synthesize(X_train, y_train, random_state=0, return_info=True)
    rows[name] = X_new
    print(
        f"{name:<9} mutual information {info.uncertainty_source.mean():.3f} -> "
        f"{info.uncertainty.mean():.3f} nats, displacement {info.displacement.mean():.2f}, "
        f"predicted as labelled {info.label_agreement.mean():.0%}"
    )

rows = {"source": X_train, **{name: rows[name] for name in synthesizers}}
fig, axes = plt.subplots(3, 8, figsize=(8, 3.3), layout="constrained")
for line, (name, images) in zip(axes, rows.items(), strict=True):
    line[0].set_ylabel(name)
    for ax, image in zip(line, images, strict=False):
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
plt.show()

# %%
# More mutual information alone does not make an autoencoder better: noise makes a classifier
# uncertain, too. Compare the images with their sources, with your own eyes.
#
# Try next
# --------
# - A class with a classmethod ``from_data(X, y, **params)`` is built from the training images, as
#   :class:`~tsynd_sk.autoencoders.PatchAutoencoder` is.
# - Train it on unlabelled images: :ref:`sphx_glr_auto_examples_plot_unlabelled.py`.
# - Use a pretrained one: :doc:`/guide/pretrained_autoencoders`.
# - Before you pickle the estimator or use ``n_jobs``, put the class in a module of its own:
#   :doc:`/guide/saving`.
