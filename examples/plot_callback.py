"""
How do I add synthesis to my skorch net?
========================================

You will learn how to add targeted synthesis as a callback to a net with standard augmentation, a
learning-rate schedule and early stopping, and how to read in the history what it did.
"""

# %%
# A network and its augmentation
# ------------------------------
# `AugmentedClassifier` trains a clone of your net. Here we train the net ourselves, so images are
# as nets take them: float32 of shape (n, C, H, W), with classes numbered from 0.
import torch
from sklearn.model_selection import train_test_split

from tsynd_sk.datasets import load_digits_images

X, y, _ = load_digits_images()
X_train, X_test, y_train, y_test = train_test_split(
    X[:, None], y, train_size=150, test_size=600, stratify=y, random_state=0
)


class SmallNet(torch.nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, width, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(width, 2 * width, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Dropout(0.4),
            torch.nn.LazyLinear(10),
        )

    def forward(self, x):
        return self.layers(x)


# %%
# The training iterator augments each batch. :class:`~tsynd_sk.augmentation.TransformRows`
# transforms each image by a random draw of its own; given a batch, transforms of torchvision treat
# all images alike. ``flip=False``, because a mirrored digit is not the same digit.
from tsynd_sk.augmentation import TransformRows, standard_transform

collate = TransformRows(standard_transform(flip=False))

import matplotlib.pyplot as plt

torch.manual_seed(0)
moved = collate([(X_train[0], y_train[0])] * 7)[0].numpy()
figure, axes = plt.subplots(1, 8, figsize=(8, 1.4), layout="constrained")
for k, (ax, image) in enumerate(zip(axes, [X_train[0, 0], *moved[:, 0]], strict=True)):
    ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel("as it is" if k == 0 else f"draw {k}")
plt.show()

# %%
# The callback
# ------------
# :class:`~tsynd_sk.TargetedSynthesis` synthesises images after the warm-up, which is a share of the
# epochs, and replaces them every few epochs. It never uses the validation rows, which the net
# splits off as usual, and does not change learning rate or optimiser. Its position among the
# callbacks does not matter.
#
# Choose early stopping with care. After each refresh the net meets harder images, and the
# validation loss can rise for a few epochs. So ``patience`` should be longer than
# ``refresh_every``, and longer than the warm-up.
import numpy as np
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping, LRScheduler
from skorch.dataset import ValidSplit

from tsynd_sk import TargetedSynthesis, TargetedSynthesizer

MAX_EPOCHS = 20


def make_net(synthesis=None):
    callbacks = [
        ("schedule", LRScheduler("CosineAnnealingLR", T_max=MAX_EPOCHS)),
        ("stopping", EarlyStopping("valid_loss", patience=8, load_best=True)),
    ]
    if synthesis is not None:
        callbacks.append(("synthesis", synthesis))
    return NeuralNetClassifier(
        SmallNet,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=1e-2,
        batch_size=25,
        max_epochs=MAX_EPOCHS,
        train_split=ValidSplit(5, stratified=True),
        iterator_train__collate_fn=collate,
        iterator_train__shuffle=True,
        callbacks=callbacks,
        verbose=0,
    )


def make_synthesis(objective, seed):
    return TargetedSynthesis(
        TargetedSynthesizer(objective=objective),
        warm_up=0.25,
        refresh_every=5,
        random_state=seed,
    )


torch.manual_seed(0)
synthesis = make_synthesis("mutual_info", seed=0)
net = make_net(synthesis).fit(X_train, y_train)

# %%
# What happened
# -------------
# The history has a row for each epoch. Epochs that began with a refresh have the mean mutual
# information of sources and synthetic images, the share of synthetic images that the members
# predict as labelled, and the seconds that synthesis took.
refreshed = [row for row in net.history if "synthesis_dur" in row]
print("epoch   sources   synthetic    agreement")
for row in refreshed:
    print(
        f"{row['epoch']:>5}{row['synthesis_uncertainty_source']:>10.3f}"
        f"{row['synthesis_uncertainty']:>12.3f}{row['synthesis_label_agreement']:>13.1%}"
    )
best = 1 + int(np.argmin(net.history[:, "valid_loss"]))
print(f"stopped after epoch {len(net.history)}, went back to epoch {best}")

# %%
# The training loss is over real and synthetic rows together, so it can jump at a refresh. The
# validation loss is over real rows alone, so its values can be compared across epochs.
epochs = [row["epoch"] for row in net.history]
# sphinx_gallery_thumbnail_number = 2
figure, (ax, ax_mi) = plt.subplots(
    2, 1, figsize=(7, 5.2), sharex=True, height_ratios=[2, 1], layout="constrained"
)
for row in refreshed:
    for one in (ax, ax_mi):
        one.axvline(row["epoch"], color="0.85", lw=4, zorder=0)
ax.plot(epochs, net.history[:, "train_loss"], color="#0072B2", label="training rows")
ax.plot(epochs, net.history[:, "valid_loss"], color="#D55E00", label="validation rows")
ax.plot(best, net.history[best - 1, "valid_loss"], "*", ms=12, color="#D55E00", label="kept")
ax.plot([], [], color="0.85", lw=4, label="refresh")
ax.set(ylabel="cross-entropy (nats)", ylim=(0, None))
ax.legend()
at = [row["epoch"] for row in refreshed]
for key, style, color, label in [
    ("synthesis_uncertainty_source", "o--", "0.4", "sources"),
    ("synthesis_uncertainty", "o-", "#009E73", "synthetic"),
]:
    ax_mi.plot(at, [row[key] for row in refreshed], style, color=color, label=label)
ax_mi.legend(loc="upper left")
ax_mi.set(xlabel="epoch", ylabel="mutual\ninformation (nats)", ylim=(0, None))
plt.show()

# %%
# In the lower panel, the grey line is how uncertain the net is about real images. The distance to
# the green line is what synthesis adds, against the net of that epoch. If the lines meet, synthesis
# finds nothing more, and further refreshes only cost time.
#
# The synthesizer of the net
# --------------------------
# The fitted synthesizer remains, with the net as it is now:
made, labels, info = synthesis.synthesizer_.sample(8, random_state=0, return_info=True)
sources = synthesis.synthesizer_.reconstruct(X_train[:1])
print("images:", made.shape, "reconstruction:", sources.shape)
uncertainty = synthesis.synthesizer_.uncertainty(X_test)
wrong = net.predict(X_test) != y_test
print(
    f"mutual information of test images: {uncertainty[~wrong].mean():.3f} nats where the net is "
    f"right, {uncertainty[wrong].mean():.3f} where it is wrong"
)

# %%
# Was it worth it?
# ----------------
# Two rivals have the same net, schedule, stopping and augmentation: one without synthesis, and one
# with copies of real images, which trains on as many rows. Equal seeds give equal initial weights,
# so differences are paired by seed. The net from above is the targeted one of seed 0.
from sklearn.metrics import log_loss

rivals = {"no synthesis": None, "duplicate": "duplicate", "targeted": "mutual_info"}
losses = {}
for name, objective in rivals.items():
    scores = []
    for seed in range(3):
        rival = net
        if name != "targeted" or seed > 0:
            torch.manual_seed(seed)
            callback = None if objective is None else make_synthesis(objective, seed)
            rival = make_net(callback).fit(X_train, y_train)
        proba = rival.predict_proba(X_test)
        scores.append(
            (log_loss(y_test, proba), (proba.argmax(1) == y_test).mean(), len(rival.history))
        )
    losses[name], accuracy, lengths = np.array(scores).T
    print(
        f"{name:<16} accuracies {' '.join(f'{value:.3f}' for value in accuracy)}, "
        f"mean log-loss {losses[name].mean():.3f} nats, epochs {lengths.astype(int).tolist()}"
    )
for name in ["no synthesis", "duplicate"]:
    difference = losses["targeted"] - losses[name]
    error = difference.std(ddof=1) / len(difference) ** 0.5
    told = "could be chance"
    if abs(difference.mean()) > 2 * error:
        told = "better" if difference.mean() < 0 else "worse"
    print(
        f"targeted - {name:<16} log-loss {difference.mean():+.3f} nats, "
        f"standard error {error:.3f}: {told}"
    )

# %%
# The line with the control shows whether targeting helped: a lead over "no synthesis" alone may
# come from more rows. Three seeds of one split give rough standard errors.
#
# Look at the epochs as well. Nets that stop at different epochs have taken different numbers of
# steps, and the net without synthesis takes fewer steps an epoch. For a comparison at equal
# budgets, leave early stopping out and use :func:`~tsynd_sk.comparison.compare`, as in
# :ref:`sphx_glr_auto_examples_plot_compare_arms.py`.
#
# Try next
# --------
# - ``iterator_train__collate_fn=TransformRows(v2.TrivialAugmentWide())``, and other transforms of
#   ``torchvision.transforms.v2``: :doc:`/guide/augmentation`.
# - :doc:`/guide/wrapping_nets`: criteria, samplers, pretrained nets.
# - The same without skorch: :ref:`sphx_glr_auto_examples_plot_torch_core.py`.
