"""
How do I search parameters in a pipeline?
=========================================

You will learn how to put an :class:`~tsynd_sk.AugmentedClassifier` into a ``Pipeline`` of
scikit-learn, which preprocessing may come before it, and how to search parameters of the network
and of the synthesis without leaking images from one side of a split to the other.
"""

# %%
# Three sets of images
# --------------------
# scikit-learn's digits are flat rows of 64 values from 0 to 16. We pretend that 90 of them are
# labelled. Others are kept for the test; the rest are used without labels.
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
# Images are synthesised from what the preprocessing puts out. So a step may scale all pixels alike,
# crop or resize. It should not scale each pixel by itself, as ``StandardScaler`` does: a pixel that
# is nearly always black would get the same contrast as all others. After ``PCA`` rows are no longer
# images. Here all values are divided by 16.
from sklearn.preprocessing import FunctionTransformer


def from_sixteenths(X):
    return (X / 16).astype(np.float32)


to_unit_range = FunctionTransformer(from_sixteenths)

# %%
# Fit the autoencoder once
# ------------------------
# By default each fit of a search fits an autoencoder to its training fold. Here one autoencoder is
# fitted to the unlabelled images, which are in no fold and not in the test
# (:doc:`/guide/pitfalls`), frozen, and used in all fits. Networks take float32 of shape (n, C, H,
# W). This autoencoder, the default, is computed in closed form.
from sklearn.frozen import FrozenEstimator

from tsynd_sk.autoencoders import AutoencoderNet, PatchPCA

autoencoder = AutoencoderNet(PatchPCA, max_epochs=0)
autoencoder.fit(to_unit_range.transform(X_unlabelled).reshape(-1, 1, 8, 8))
frozen = FrozenEstimator(autoencoder)

# %%
# Search
# ------
# ``image_shape`` tells the synthesizer that flat rows are images. Names of parameters have two
# underscores between levels. The grid has two parts: targeted images with two radii, and a control
# that copies images without moving them. All candidates train on as many rows.
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.classifiers import NetClassifier

pipeline = make_pipeline(
    to_unit_range,
    AugmentedClassifier(
        NetClassifier(max_epochs=12, module__width=12),
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
# Each fit synthesises from its own training fold, so that no synthetic image comes from an image
# that it is scored on. Images that were synthesised before the split would leak the validation
# images into training.
#
# Read the folds
# --------------
# With few images the log-loss (lower is better) tells more than the accuracy, which changes in
# steps of a whole image. Small marks are single folds.
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
# Compare the distance between colours, the effect of the learning rate, with that between columns,
# the effect of synthesis. At a radius of 1, images can change so much that their labels are wrong
# (:doc:`/guide/pitfalls`). Folds differ because their images do, so compare candidates fold by
# fold:
best = search.best_index_
print(f"best: {names[best]}, lr = {rates[best]:g}; at that lr:")
for i, name in enumerate(names):
    if rates[i] == rates[best] and i != best:
        lead = losses[i] - losses[best]
        in_folds = " ".join(f"{value:+.3f}" for value in lead)
        print(f"lead over {name:<23}: {lead.mean():+.3f} nats, in the folds {in_folds}")

# %%
# A lead in one fold and a lag in another is chance: three folds of thirty images cannot tell such
# candidates apart. Repeated folds (``RepeatedStratifiedKFold``) tell a little more. If the control
# leads or is level, targeting has not helped here.
#
# Test once
# ---------
# The test images took no part in the choice. ``search`` has trained the best candidate again on all
# labelled images.
print({name.split("__", 1)[1]: value for name, value in search.best_params_.items()})
print(f"log-loss in the folds  {-search.best_score_:.3f}")
print(f"log-loss in the test   {-search.score(X_test, y_test):.3f}")
print(f"accuracy in the test   {search.best_estimator_.score(X_test, y_test):.3f}")

# %%
# Two things move the test score away from that of the folds: the final model had more training
# images, and the best of several scores is too good by chance.
#
# Try next
# --------
# - ``n_jobs=2`` in ``GridSearchCV`` runs two fits at a time; :doc:`/guide/clusters` uses many
#   machines. Put functions and network classes of your own in a module that workers can import.
# - Search ``augmentedclassifier__synthesizer__label_policy`` together with the radius:
#   :doc:`/guide/objectives`.
# - Search ``augmentedclassifier__synthetic_ratio``: :doc:`/guide/augmentation`.
# - Frozen autoencoders: :doc:`/guide/unlabelled` and
#   :ref:`sphx_glr_auto_examples_plot_unlabelled.py`.
# - :doc:`/guide/pitfalls` lists further ways in which images leak.
