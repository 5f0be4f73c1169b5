"""
Watching an ascent
==================

You will learn how a synthetic image comes about, step by step: where an ascent starts, what the
objective does to an image, what the label policy holds back, and how to tell a targeted image from
one that was merely moved.
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

constrained = AscentDisplay.from_estimator(synthesizer, X[:12], y[:12], random_state=0)
constrained.plot()
plt.show()

# %%
# Read a line from left to right:
#
# - The *source* is the real image. The dotted stretch leads to step 0, the random start at the
#   surface of the trust region (``random_start=1``). Part of what changes there comes from the
#   autoencoder, which decodes the image from its code.
# - From there on each step climbs the mutual information between prediction and members: how much
#   the members disagree. Steps shrink from the first to the last, for early ones are to get
#   somewhere and late ones to search more closely.
# - A filled point is an image that the members, on average, still take for its label. At a hollow
#   one the label is *crossed*: they take it for another digit. A line that zigzags between the two
#   runs along the boundary: after a crossed point, the next step makes the label likelier instead.
# - The star is the image that is *chosen*: the most uncertain one among filled points. That need
#   not be the last.
#
# In numbers, over the twelve:
visited = np.isfinite(constrained.uncertainty)
crossed = visited & ~constrained.label_agreement
means = {
    "sources": constrained.uncertainty_source.mean(),
    "step 0": constrained.uncertainty[:, 0].mean(),
    "chosen": constrained.uncertainty_synthetic.mean(),
}
print("mean mutual information:", ", ".join(f"{k} {v:.3f} nats" for k, v in means.items()))
print(f"points on the ways: {visited.sum()}, crossed: {crossed.sum()}")
print(f"ascents that crossed at least once: {crossed.any(axis=1).sum()} of {len(crossed)}")

# %%
# What the label policy holds back
# --------------------------------
# ``label_policy="keep"`` takes the most uncertain image on the way, whatever the members take it
# for, and labels it as its source all the same. ``set_params`` after ``fit`` trains nothing again,
# and the same ``random_state`` starts from the same points, so that what differs is the policy.
synthesizer.set_params(label_policy="keep")
kept = AscentDisplay.from_estimator(synthesizer, X[:12], y[:12], random_state=0)
kept.plot()
plt.show()

# %%
# Nothing calls these ascents back when they cross, and on the whole they climb higher. A hollow
# star is an image that the members take for another digit than its label says. Look at those images
# among the rows: would you still give them the label of their source? Where you would, "keep" has
# found a mistake of the net, and where you would not, it teaches a wrong label. The library cannot
# tell, which is why "constrain" is the default: it leaves out both.
#
# Targeted, or merely moved?
# --------------------------
# A random displacement also makes images that are new. The objective ``"random"`` goes to the
# surface of the trust region in a random direction, and asks no net about the way;
# ``"reconstruction"`` does not move at all. Both take the same autoencoder as the targeted images.
# Here all images of the training set are sources.
settings = {
    "reconstruction": ("reconstruction", "constrain"),
    "random": ("random", "constrain"),
    "mutual_info": ("mutual_info", "constrain"),
    "mutual_info, keep": ("mutual_info", "keep"),
}
uncertainty = {}
print(f"{'':<20}{'MI [nats]':>10}{'displacement':>14}{'taken for its label':>21}")
for name, (objective, policy) in settings.items():
    synthesizer.set_params(objective=objective, label_policy=policy)
    _, _, info = synthesizer.synthesize(X, y, random_state=0, return_info=True)
    uncertainty.setdefault("real images", info.uncertainty_source)
    uncertainty[name] = info.uncertainty
    print(
        f"{name:<20}{info.uncertainty.mean():>10.3f}{info.displacement.mean():>14.2f}"
        f"{info.label_agreement.mean():>21.1%}"
    )

# %%
# The displacement is in standard deviations of the latent coordinates, and at most ``radius``. So
# "random" and "mutual_info" went about equally far: the difference in the first column is one of
# direction. That between the last two rows is the price of the policy, and the last column is
# what it buys.
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

synthesizer.set_params(label_policy="constrain")
fig, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharex=True, sharey=True, layout="constrained")
for ax, objective in zip(axes, ["mutual_info", "random"], strict=True):
    synthesizer.set_params(objective=objective)
    display = LatentDisplay.from_estimator(synthesizer, X, y, n_samples=16, random_state=0)
    display.plot(ax=ax, legend=objective == "random")
    ax.set_title(objective)
plt.show()

# %%
# Most arrows of both point inwards. It is tempting to read that as a search for the boundary
# between the digits, and so we count. The second column below says on how much closer a code lies
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
for objective in ["reconstruction", "random", "mutual_info"]:
    synthesizer.set_params(objective=objective)
    display = LatentDisplay.from_estimator(synthesizer, X, y, n_samples=len(X), random_state=0)
    before, after = display.source, display.synthetic
    inwards = (np.linalg.norm(after, axis=1) < np.linalg.norm(before, axis=1)).mean()
    leads = [lead(places, display.labels_synthetic) for places in (before, after)]
    print(f"{objective:<16}{inwards:>22.0%}{leads[0]:>22.2f} -> {leads[1]:.2f} std.")

# %%
# Even reconstructions move inwards, though nothing displaced them: what an autoencoder decodes is a
# little more average than what it was given. The control explains the most striking thing about the
# picture. The last column is what is left for targeting. And the map has two of many dimensions,
# with the share of the variance that its axes tell, so that what looks far apart on it can be
# close, and the other way round. The picture of the steps, and the first table, are the better
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
