"""
Watching an ascent
==================

You will learn how a synthetic image comes about, step by step: where an ascent starts, what the
objective does to an image, how radius and label policy guard the label, and how to tell a targeted
image from one that was merely moved.
"""

# %%
# A synthesizer to watch
# ----------------------
# The digits 3, 5, 8 and 9 are easily mistaken for each other, which gives the members of a net
# something to disagree about. The synthesizer trains a net and an autoencoder.
import numpy as np

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

images, labels, _ = load_digits_images()
alike = np.isin(labels, [3, 5, 8, 9])
X, y = images[alike][:120], labels[alike][:120]
synthesizer = TargetedSynthesizer(
    NetClassifier(max_epochs=20, lr=5e-3, module__width=16),
    AutoencoderNet(max_epochs=10, module__width=32),
    random_state=0,
).fit(X, y)

# %%
# Twelve ascents
# --------------
# :class:`~tsynd_sk.inspection.AscentDisplay` synthesises from the images that it is given, and
# keeps what happens on the way. Each line is one ascent. Those in colour have their images below.
import matplotlib.pyplot as plt

from tsynd_sk.inspection import AscentDisplay

display = AscentDisplay.from_estimator(synthesizer, X[:12], y[:12], random_state=0)
display.plot()
plt.show()

# %%
# Read a line from left to right:
#
# - The *source* is the real image. The dotted stretch leads to step 0, the random start at the
#   surface of the trust region (``random_start=1``).
# - From there on each step climbs the mutual information between prediction and members: how much
#   the members disagree. Steps shrink from the first to the last, for early ones are to get
#   somewhere and late ones to search more closely.
# - At a filled point the members, on average, still predict the label of the image. At a hollow
#   one the label is *denied*: they predict another digit.
# - The star is the image that is *chosen*, the most uncertain one on the way. That need not be the
#   last. Whatever the members predict, its label is that of its source: this is
#   ``label_policy="keep"``, the default.
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
    print(f"points on the ways: {visited.sum()}, label denied at {denied.sum()}")
    print(f"ascents with such a point: {denied.any(axis=1).sum()} of {len(denied)}")


tell(display)

# %%
# What guards the label
# ---------------------
# A hollow star is an image that the members take for another digit than its label says. Here are
# those of the twelve, with their sources:
from tsynd_sk.inspection import SynthesisDisplay

X_new, _, info = synthesizer.synthesize(X[:12], y[:12], random_state=0, return_info=True)
denied = np.flatnonzero(~info.label_agreement)
print(f"{len(denied)} of {len(X_new)} chosen images are taken for another digit")
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
# Would you still give them the label of their source? Where you would, the ascent has found a
# mistake of the net, which is what it has most to learn from. Where you would not, it teaches a
# wrong label. (These digits are a hard case. In eight by eight pixels a few grey values make a 5 of
# a 9, and you may find that here.) The library cannot tell. What it has for a guard is the trust
# region: within a small ``radius`` images stay close to their sources, and so do labels. See what
# happens at four times the default. ``set_params`` after ``fit`` trains nothing again, and the same
# ``random_state`` starts in the same directions.
synthesizer.set_params(radius=1.0)
wide = AscentDisplay.from_estimator(synthesizer, X[:12], y[:12], random_state=0)
wide.plot()
plt.show()
tell(wide)

# %%
# These ascents climb higher, their labels are denied more often, and their images are no longer
# slightly changed digits. Whoever wants to go so far needs another guard.
# ``label_policy="constrain"`` takes the most uncertain image among the filled points:
synthesizer.set_params(label_policy="constrain")
constrained = AscentDisplay.from_estimator(synthesizer, X[:12], y[:12], random_state=0)
constrained.plot()
plt.show()
tell(constrained)

# %%
# A line that zigzags runs along the boundary: after a hollow point, the next step makes the label
# likelier instead. No star is hollow, unless the net mistakes the source already. The price is that
# the mistakes of the net are left out with the wrong labels, and that the net has the say: an image
# that it takes for its label need not look like it.
#
# Targeted, or merely moved?
# --------------------------
# A random displacement also makes images that are new. The objective ``"random"`` goes to the
# surface of the trust region in a random direction, and asks no net about the way;
# ``"duplicate"`` does not move at all, and copies. Here all images of the training set are sources.
settings = {
    "duplicate": ("duplicate", "keep"),
    "random": ("random", "keep"),
    "mutual_info": ("mutual_info", "keep"),
    "with constrain": ("mutual_info", "constrain"),
}
uncertainty = {}
synthesizer.set_params(radius=0.25)
print(f"{'':<16}{'MI (nats)':>10}{'displacement':>14}{'taken for its label':>21}")
for name, (objective, policy) in settings.items():
    synthesizer.set_params(objective=objective, label_policy=policy)
    _, _, info = synthesizer.synthesize(X, y, random_state=0, return_info=True)
    uncertainty.setdefault("real images", info.uncertainty_source)
    uncertainty[name] = info.uncertainty
    print(
        f"{name:<16}{info.uncertainty.mean():>10.3f}{info.displacement.mean():>14.2f}"
        f"{info.label_agreement.mean():>21.1%}"
    )

# %%
# The displacement is in standard deviations of the latent coordinates, and at most ``radius``. So
# "random" and "mutual_info" went about equally far: the difference in the first column is one of
# direction. In the last two rows, compare what "constrain" costs, in the first column, with what
# it buys, in the last.
#
# Means can hide much. The distributions are curves of the share of images with at most so much
# mutual information; further to the right is more uncertain. The display takes arrays, too:
from tsynd_sk.inspection import UncertaintyDisplay

UncertaintyDisplay(uncertainty).plot()
plt.show()

# %%
# Where the images went
# ---------------------
# :class:`~tsynd_sk.inspection.LatentDisplay` joins sources to their samples, on the two directions
# in which the codes of real images differ most. Left are targeted images, right random ones of the
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
# Most arrows of both point inwards. It is tempting to read that as a search for the boundary
# between the digits, and so we count. The second column below says how much closer a code lies
# to the middle of its own digit than to that of the nearest other one. All are distances on the
# map, over as many samples as there are images.
middles = {digit: display.real[display.labels == digit].mean(axis=0) for digit in np.unique(y)}


def lead(places, digits):
    distances = {
        digit: np.linalg.norm(places - middle, axis=1) for digit, middle in middles.items()
    }
    own = np.choose(np.searchsorted(list(distances), digits), list(distances.values()))
    others = [np.where(digits == digit, np.inf, values) for digit, values in distances.items()]
    return (np.min(others, axis=0) - own).mean()


print(f"{'':<16}{'nearer to the middle':>22}{'lead of the own digit':>32}")
for objective in ["random", "mutual_info"]:
    synthesizer.set_params(objective=objective)
    display = LatentDisplay.from_estimator(synthesizer, X, y, n_samples=len(X), random_state=0)
    before, after = display.source, display.synthetic
    inwards = (np.linalg.norm(after, axis=1) < np.linalg.norm(before, axis=1)).mean()
    leads = [lead(places, display.labels_synthetic) for places in (before, after)]
    print(f"{objective:<16}{inwards:>22.0%}{leads[0]:>22.2f} -> {leads[1]:.2f} std.")

# %%
# Most random images end nearer to the middle, too, though nothing aimed them: the map shows how the
# encoder sees an image, which is not quite the code that it was made from. The control explains
# much of the most striking thing about the picture. The last column is what is left for targeting.
# And the map has two of many dimensions, with the share of the variance that its axes tell, so that
# what looks far apart on it can be close, and the other way round. The picture of the steps, and
# the first table, are the better
# evidence.
#
# What none of this shows is whether a net learns from these images. High mutual information says
# that the members disagree about an image, not that the image is a good lesson.
#
# Try next
# --------
# - ``radius``, ``max_iter`` and ``random_start``: :doc:`/guide/objectives` says what they do, and
#   :doc:`/guide/method` has the equation of a step.
# - Other members make another uncertainty: :doc:`/guide/members` and
#   :ref:`sphx_glr_auto_examples_plot_deep_ensemble.py`.
# - An objective that you write yourself: :ref:`sphx_glr_auto_examples_plot_own_objective.py`.
# - Whether training on such images helps: :ref:`sphx_glr_auto_examples_plot_robustness.py`.
