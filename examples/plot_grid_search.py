"""
Grid search in a pipeline
=========================

You will learn how to put an :class:`~tsynd_sk.AugmentedClassifier` into a ``Pipeline`` of
scikit-learn, which preprocessing can stand before it, and how to search its parameters together
with those of the synthesizer and of the net, without images leaking from one side of a split to the
other.
"""

# %%
# Three sets of images
# --------------------
# scikit-learn's digits come as flat rows of 64 values from 0 to 16. We pretend that 90 of them are
# labelled. Others are kept for the test, and the rest serves without its labels.
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

X, y = load_digits(return_X_y=True)
X, X_rest, y, y_rest = train_test_split(X, y, train_size=90, stratify=y, random_state=0)
X_test, X_unlabelled, y_test, _ = train_test_split(
    X_rest, y_rest, train_size=500, stratify=y_rest, random_state=0
)
for name, rows in {"labelled": X, "test": X_test, "unlabelled": X_unlabelled}.items():
    print(f"{name:<11} {len(rows):>4} rows of {rows.shape[1]} values")


# %%
# Preprocessing that leaves images images
# ---------------------------------------
# Whatever stands before the classifier also stands before its autoencoder, and synthetic images are
# made of what comes out. So a step may change the units of all pixels alike, crop or resize. It
# should not give each pixel units of its own, as ``StandardScaler`` does: a pixel that is nearly
# always black would be blown up to the same contrast as all others. After ``PCA`` rows are no
# images at all, and have to be treated as a table. Here all values are divided by 16.
from sklearn.preprocessing import FunctionTransformer


def from_sixteenths(X):
    return (X / 16).astype(np.float32)


to_unit_range = FunctionTransformer(from_sixteenths)

# %%
# An autoencoder that is trained once
# -----------------------------------
# Without further measures each fit of a search trains an autoencoder on its training fold, which
# is clean but takes most of the time. The unlabelled images are neither in a fold nor in the test.
# An autoencoder that was trained on them and frozen can therefore serve all fits, and knows nothing
# that it should not know. (Frozen after a training on the labelled images, it would have
# seen those that its candidates are scored on.) Nets see images as float32 of shape (n, C, H, W).
import torch
from sklearn.frozen import FrozenEstimator

from tsynd_sk.autoencoders import AutoencoderNet

torch.manual_seed(0)
autoencoder = AutoencoderNet(max_epochs=10, module__width=32)
autoencoder.fit(to_unit_range.transform(X_unlabelled).reshape(-1, 1, 8, 8))
frozen = FrozenEstimator(autoencoder)

# %%
# The search
# ----------
# ``image_shape`` tells the synthesizer that flat rows are images. Parameters are reached by their
# names, with two underscores between the levels. The grid has two parts: targeted images of
# different radii, and a control, in which images are copied and not moved. All candidates
# train on equally many rows, so that a lead of the targeted ones is not one of longer training.
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.classifiers import NetClassifier

pipeline = make_pipeline(
    to_unit_range,
    AugmentedClassifier(
        NetClassifier(max_epochs=20, module__width=16),
        TargetedSynthesizer(autoencoder=frozen, image_shape=(8, 8), n_members=8, max_iter=5),
        synthetic_ratio=1,
        refresh_every=8,
        random_state=0,
    ),
)
objective = "augmentedclassifier__synthesizer__objective"
radius = "augmentedclassifier__synthesizer__radius"
lr = "augmentedclassifier__estimator__lr"
grid = [
    {objective: ["duplicate"], lr: [2e-3, 1e-2]},
    {objective: ["mutual_info"], radius: [0.25, 1.0], lr: [2e-3, 1e-2]},
]
folds = StratifiedKFold(3, shuffle=True, random_state=0)
search = GridSearchCV(pipeline, grid, cv=folds, scoring="neg_log_loss").fit(X, y)

# %%
# Each fit of the search synthesises from its own training fold: no synthetic image comes from an
# image that it is scored on. That is what the pipeline is for; images that were synthesised before
# the split would carry the validation images into the training.
#
# What the folds say
# ------------------
# The log-loss, low for good probabilities, tells more of few images than the accuracy, which
# changes in steps of a whole image. Small marks are single folds.
import matplotlib.pyplot as plt

results = search.cv_results_
names = [
    "control, duplicate"
    if params[objective] == "duplicate"
    else f"targeted, radius {params[radius]}"
    for params in results["params"]
]
rates = [params[lr] for params in results["params"]]
losses = -np.array([results[f"split{fold}_test_score"] for fold in range(3)]).T

fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
places = {name: place for place, name in enumerate(dict.fromkeys(names))}
for rate, marker, color, shift in [(2e-3, "o", "#0072B2", -0.1), (1e-2, "s", "#D55E00", 0.1)]:
    chosen = [i for i in range(len(names)) if rates[i] == rate]
    at = np.array([places[names[i]] for i in chosen]) + shift
    ax.plot(at, losses[chosen].mean(1), marker, color=color, ms=8, label=f"lr = {rate:g}")
    ax.plot(at, losses[chosen], marker, color=color, ms=3, alpha=0.6)
ax.set_xticks(list(places.values()), [name.replace(", ", ",\n") for name in places])
ax.set(ylabel="log-loss on the validation fold (nats)", ylim=(0, None))
ax.legend(title="learning rate of the net")
plt.show()

# %%
# In the first two columns the colours lie further apart than the columns do: the learning rate
# matters more than what is synthesised. The third column is another matter. At a radius of 1,
# images can change so much that the labels of their sources are no longer theirs
# (:doc:`/guide/pitfalls`). Folds differ from each other because their images do. To tell whether
# one candidate beats another, compare the two fold by fold:
best = search.best_index_
print(f"best: {names[best]}, lr = {rates[best]:g}; at that lr:")
for i, name in enumerate(names):
    if rates[i] == rates[best] and i != best:
        lead = losses[i] - losses[best]
        in_folds = " ".join(f"{value:+.3f}" for value in lead)
        print(f"lead over {name:<23}: {lead.mean():+.3f} nats, in the folds {in_folds}")

# %%
# A lead that is large in one fold and a lag in another, in the output above, is chance rather than
# merit: three folds of thirty images cannot tell such candidates apart, and repeated folds
# (``RepeatedStratifiedKFold``) can tell a little more. A lead that is large in every fold is harder
# to get by chance. If the control leads, or is level, then targeting has not helped here, and the
# search says so because the control was in its grid.
#
# The test, once
# --------------
# The test images took no part in the choice. ``search`` predicts with the best candidate, which it
# has trained again on all labelled images.
print({name.split("__", 1)[1]: value for name, value in search.best_params_.items()})
print(f"log-loss in the folds  {-search.best_score_:.3f}")
print(f"log-loss in the test   {-search.score(X_test, y_test):.3f}")
print(f"accuracy in the test   {search.best_estimator_.score(X_test, y_test):.3f}")

# %%
# The model that was tested has more training images than those of the folds had, which helps it,
# while the best of several scores is flattered by chance.
#
# Try next
# --------
# - ``n_jobs=2`` in ``GridSearchCV`` fits side by side, and :doc:`/guide/clusters` on many machines.
#   Functions and net classes of your own then belong in a module that workers can import.
# - Search ``augmentedclassifier__synthesizer__label_policy`` together with the radius. With
#   ``"constrain"`` large radii do less harm; :doc:`/guide/objectives` says why.
# - Search ``augmentedclassifier__synthetic_ratio``; :doc:`/guide/augmentation` says what it does.
# - :doc:`/guide/unlabelled` has more of frozen autoencoders, as has
#   :ref:`sphx_glr_auto_examples_plot_unlabelled.py`.
# - :doc:`/guide/pitfalls` lists further ways in which images leak.
