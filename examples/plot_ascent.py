"""
How is an image synthesised?
============================

You will learn how a synthetic image is made, step by step: where an ascent starts, what the
objective does to an image, how radius and label policy protect the label, and how targeted images
differ from randomly moved ones.
"""

# %%
# A synthesizer to watch
# ----------------------
# The digits 3, 5, 8 and 9 are easily confused, so that members of a network have something to
# disagree about. The synthesizer trains a network and fits an autoencoder.
import numpy as np

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

images, labels, _ = load_digits_images()
alike = np.isin(labels, [3, 5, 8, 9])
X, y = images[alike][:120], labels[alike][:120]
synthesizer = TargetedSynthesizer(
    NetClassifier(max_epochs=20, lr=5e-3, module__width=16),
    radius=0.25,
    max_iter=10,
    label_policy="keep",
    random_state=0,
).fit(X, y)

# %%
# Twelve ascents
# --------------
# :class:`~tsynd_sk.inspection.AscentDisplay` synthesises from the given images and records each
# step. Each line is one ascent; coloured ones have their images below. (The default is one step,
# twice as far. We take ten, by ``max_iter=10``, to see more.)
import matplotlib.pyplot as plt

from tsynd_sk.inspection import AscentDisplay

display = AscentDisplay.from_estimator(synthesizer, X[:12], y[:12], random_state=0)
display.plot()
plt.show()

# %%
# Read a line from left to right:
#
# - The *source* is the real image. The dotted line leads to step 0, a random start at the surface
#   of the trust region (``random_start=1``).
# - Each further step climbs the mutual information between prediction and members: how much the
#   members disagree. Steps shrink, so that late steps search more finely.
# - At a filled point, the members predict the label on average. At a hollow one the label is
#   *denied*: they predict another digit.
# - The star is the *chosen* image, the most uncertain one, which need not be the last. It has the
#   label of its source, whatever the members predict, because of ``label_policy="keep"``.
#
# In numbers, over the twelve:


def tell(display):
    means = {
        "sources": display.uncertainty_source.mean(),
        "step 0": display.uncertainty[:, 0].mean(),
        "chosen": display.uncertainty_synthetic.mean(),
    }
    print("mean mutual information:", ", ".join(f"{k} {v:.3f} nats" for k, v in means.items()))
    visited = np.isfinite(display.uncertainty)
    denied = visited & ~display.label_agreement
    print(f"points on the lines: {visited.sum()}, label denied at {denied.sum()}")
    print(f"ascents with such a point: {denied.any(axis=1).sum()} of {len(denied)}")


tell(display)

# %%
# What protects the label?
# ------------------------
# A hollow star is an image for which the members predict another digit than its label. Here are
# those images, with their sources, at four times that radius. ``set_params`` after ``fit``
# trains nothing again, and equal ``random_state`` gives equal starting directions.
from tsynd_sk.inspection import SynthesisDisplay

synthesizer.set_params(radius=1.0)
X_new, _, info = synthesizer.synthesize(X[:12], y[:12], random_state=0, return_info=True)
denied = np.flatnonzero(~info.label_agreement)
print(f"{len(denied)} of {len(X_new)} chosen images are predicted as another digit")
SynthesisDisplay(
    X[denied],
    X_new[denied],
    uncertainty_source=info.uncertainty_source[denied],
    uncertainty=info.uncertainty[denied],
    label_agreement=info.label_agreement[denied],
    labels=y[denied],
).plot()
plt.show()

# %%
# Would you still give them the label of their source? If so, the ascent has found a mistake of the
# network, from which it has most to learn. If not, the image teaches a wrong label. The library
# cannot tell which. With a small ``radius`` images stay close to their sources, and labels stay
# right. The ascents at this radius:
wide = AscentDisplay.from_estimator(synthesizer, X[:12], y[:12], random_state=0)
wide.plot()
plt.show()
tell(wide)

# %%
# Compare with the first picture: ascents climb higher, labels are denied more often, and images
# change more. To go so far, you need another protection. ``label_policy="constrain"``, the default,
# shortens the displacement of an image whose label is denied, until the members predict its label:
synthesizer.set_params(label_policy="constrain")
constrained = AscentDisplay.from_estimator(synthesizer, X[:12], y[:12], random_state=0)
constrained.plot()
plt.show()
tell(constrained)

# %%
# The lines are the same, but no star is at a hollow point: such an image went back towards its
# source. A star is hollow only if the network is wrong about the source already. The price:
# mistakes of the network are left out along with wrong labels, and the network decides what an
# image shows.
#
# Targeted, or randomly moved?
# ----------------------------
# Random displacements also make new images. The objective ``"random"`` goes to the surface of the
# trust region in a random direction; ``"duplicate"`` copies. Here all training images are sources.
settings = {
    "duplicate": ("duplicate", "keep"),
    "random": ("random", "keep"),
    "mutual_info": ("mutual_info", "keep"),
    "with constrain": ("mutual_info", "constrain"),
}
uncertainty = {}
synthesizer.set_params(radius=0.25)
print(f"{'':<16}{'MI (nats)':>10}{'displacement':>14}{'predicted as labelled':>23}")
for name, (objective, policy) in settings.items():
    synthesizer.set_params(objective=objective, label_policy=policy)
    _, _, info = synthesizer.synthesize(X, y, random_state=0, return_info=True)
    uncertainty.setdefault("real images", info.uncertainty_source)
    uncertainty[name] = info.uncertainty
    print(
        f"{name:<16}{info.uncertainty.mean():>10.3f}{info.displacement.mean():>14.2f}"
        f"{info.label_agreement.mean():>23.1%}"
    )

# %%
# The displacement is in standard deviations of the latent coordinates, and at most ``radius``.
# "random" and "mutual_info" went equally far, so the difference in the first column comes from the
# direction. In the last two rows, compare what "constrain" costs (first column) with what it gains
# (last column).
#
# Means can hide much, so here are the distributions: each curve is the share of images with at most
# so much mutual information. Curves further to the right are more uncertain.
from tsynd_sk.inspection import UncertaintyDisplay

UncertaintyDisplay(uncertainty).plot()
plt.show()

# %%
# Where do images go?
# -------------------
# :class:`~tsynd_sk.inspection.LatentDisplay` joins sources to their samples on the two directions
# in which codes of real images differ most. Left are targeted images, right random ones from the
# same sources.
from tsynd_sk.inspection import LatentDisplay

synthesizer.set_params(label_policy="keep")
fig, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharex=True, sharey=True, layout="constrained")
for ax, objective in zip(axes, ["mutual_info", "random"], strict=True):
    synthesizer.set_params(objective=objective)
    display = LatentDisplay.from_estimator(synthesizer, X, y, n_samples=16, random_state=0)
    display.plot(ax=ax, legend=objective == "random")
    ax.set_title(objective)
plt.show()

# %%
# Read such a map with care. It shows two of many dimensions, with the share of the variance on its
# axes: what is far apart on it can be close, and the other way round. Always draw the random
# control beside it. The ascents and the table above are better evidence.
#
# None of this shows whether a network learns from these images. High mutual information means that
# members disagree about an image, not that the image teaches something.
#
# Try next
# --------
# - ``radius``, ``max_iter`` and ``random_start``: :doc:`/guide/objectives`; the equation of a step:
#   :doc:`/guide/method`.
# - Other members: :doc:`/guide/members` and
#   :ref:`sphx_glr_auto_examples_plot_deep_ensemble.py`.
# - An objective of your own: :ref:`sphx_glr_auto_examples_plot_own_objective.py`.
# - Does training on such images help? :ref:`sphx_glr_auto_examples_plot_quick_start.py`.
