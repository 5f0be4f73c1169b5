"""
What are unlabelled images good for?
====================================

You will learn how to use images without labels: train an autoencoder on them, freeze it, and give
it to the synthesizer. You will see what that does to reconstructions, and whether the classifier
gains.
"""

# %%
# Few labels, many images
# -----------------------
# Fifty digits have labels. Test images must not be among the unlabelled ones
# (:doc:`/guide/pitfalls`).
import numpy as np
from sklearn.model_selection import train_test_split

from tsynd_sk.datasets import load_digits_images

X, y, _ = load_digits_images()
X_train, X_rest, y_train, y_rest = train_test_split(X, y, train_size=50, stratify=y, random_state=0)
X_test, X_unlabelled, y_test, _ = train_test_split(
    X_rest, y_rest, train_size=500, stratify=y_rest, random_state=0
)
print(f"{len(X_train)} labelled, {len(X_unlabelled)} unlabelled, {len(X_test)} test images")

# %%
# Two autoencoders
# ----------------
# Both have the same architecture and codes of the same size. One is trained on the labelled images
# alone, the other on all images but the test images. Networks take float32 of shape (n, C, H, W),
# so the images get an axis for their one channel. Both train equally long, because an epoch has a
# fixed number of images (``epoch_size``).
import torch

from tsynd_sk.autoencoders import AutoencoderNet

sets = {"50 labelled": X_train, "all": np.concatenate([X_train, X_unlabelled])}
autoencoders, errors = {}, {}
for name, images in sets.items():
    torch.manual_seed(0)
    net = AutoencoderNet(max_epochs=6, module__n_components=6, module__width=32)
    autoencoders[name] = net.fit(images[:, None])
    errors[name] = {
        part: np.sqrt(np.square(net.predict(rows[:, None])[:, 0] - rows).mean((1, 2)))
        for part, rows in {"labelled images": X_train, "test images": X_test}.items()
    }
    print(f"trained on {name}:")
    for part, values in errors[name].items():
        print(f"  root-mean-square error on {part:<16} {values.mean():.4f}")

# %%
# Pixels go from 0 to 1. Compare the two errors on test images. For each autoencoder, also compare
# the error on test images with that on labelled images, which it has seen: the gap is overfitting.
import matplotlib.pyplot as plt

rows = {"test image": X_test[:8]}
for name, net in autoencoders.items():
    rows[f"trained on\n{name}"] = net.predict(X_test[:8, None])[:, 0]
fig, axes = plt.subplots(3, 8, figsize=(8, 3.4), layout="constrained")
for line, (name, images) in zip(axes, rows.items(), strict=True):
    line[0].set_ylabel(name)
    for ax, image in zip(line, images, strict=True):
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
plt.show()

# %%
# Each point is a test image. Below the diagonal, the autoencoder that was trained on all images
# reconstructs it better.
few, many = (errors[name]["test images"] for name in sets)
# sphinx_gallery_thumbnail_number = 2
fig, ax = plt.subplots(figsize=(4.2, 4.2), layout="constrained")
ax.plot(few, many, "o", color="#0072B2", ms=3, alpha=0.5)
limits = [0, 1.05 * max(few.max(), many.max())]
ax.plot(limits, limits, color="0.5", lw=1)
ax.set(xlim=limits, ylim=limits, aspect="equal")
ax.set_xlabel("error, trained on 50 labelled\n(root mean square, pixels of 0 to 1)")
ax.set_ylabel("error, trained on all\n(root mean square, pixels of 0 to 1)")
plt.show()
print(f"{(many < few).mean():.0%} of the test images lie below the diagonal")

# %%
# Does the classifier gain?
# -------------------------
# Both autoencoders are frozen (:doc:`/guide/unlabelled`). The control trains on as many rows, which
# are copies. Three seeds vary the training of the classifier, but not the fifty images.
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.classifiers import NetClassifier

arms = {
    "control (duplicate)": ("all", "duplicate"),
    "targeted, 50 labelled": ("50 labelled", "mutual_info"),
    "targeted, all": ("all", "mutual_info"),
}
losses = {}
for arm, (name, objective) in arms.items():
    scores = []
    for seed in range(3):
        classifier = AugmentedClassifier(
            NetClassifier(max_epochs=12, lr=1e-2, module__width=12),
            TargetedSynthesizer(
                autoencoder=FrozenEstimator(autoencoders[name]), objective=objective
            ),
            synthetic_ratio=1,
            random_state=seed,
        ).fit(X_train, y_train)
        proba = classifier.predict_proba(X_test)
        scores.append((classifier.score(X_test, y_test), log_loss(y_test, proba)))
    losses[arm] = np.array(scores)[:, 1]
    accuracies = " ".join(f"{score[0]:.3f}" for score in scores)
    print(f"{arm:<30} accuracies {accuracies}, mean log-loss {losses[arm].mean():.3f} nats")

for rival in ["targeted, 50 labelled", "control (duplicate)"]:
    difference = losses["targeted, all"] - losses[rival]
    error = difference.std(ddof=1) / len(difference) ** 0.5
    told = "could be chance"
    if abs(difference.mean()) > 2 * error:
        told = "better" if difference.mean() < 0 else "worse"
    print(
        f"targeted, all - {rival:<30} log-loss {difference.mean():+.3f} nats, "
        f"standard error {error:.3f}: {told}"
    )

# %%
# More images make a better autoencoder, but not necessarily a better classifier. The last two lines
# say whether the better autoencoder improved the classifier, and whether targeting did. There are
# two reasons why they may not: synthetic images keep the detail that an autoencoder loses, and
# training on uncertain images can make a classifier less sure of clean ones, which raises the
# log-loss. Measure it on your images in this way, and on corrupted ones too
# (:doc:`/guide/evaluation`).
#
# Try next
# --------
# - :doc:`/guide/unlabelled`: keep such an autoencoder in a file, and what must not be among the
#   unlabelled images.
# - :doc:`/guide/pretrained_autoencoders`: an autoencoder that others have trained.
# - :ref:`sphx_glr_auto_examples_plot_own_autoencoder.py`: an architecture of your own.
# - :ref:`sphx_glr_auto_examples_plot_grid_search.py`: a frozen autoencoder in a search.
