"""
Where does my network look?
===========================

You will learn how to draw where a classifier looks, how to find which changes of an image make it
doubt, and which controls such pictures need before you draw conclusions from them.
"""

# %%
# Five classifiers
# ----------------
# We train the same network, plain and augmented, from two seeds each, on the same images. The
# second seed is a control. The plain ones get more epochs, so that all make as many gradient steps.
# A fifth network has learnt nothing: its learning rate is 0.
import numpy as np
from sklearn.model_selection import train_test_split

from tsynd_sk import AugmentedClassifier
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

X, y, _ = load_digits_images()
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=150, test_size=500, stratify=y, random_state=0
)


def net(max_epochs, lr=1e-2):
    return NetClassifier(max_epochs=max_epochs, lr=lr, module__width=12)


classifiers = {}
for seed in range(2):
    augmented = AugmentedClassifier(net(16), random_state=seed).fit(X_train, y_train)
    steps = [epoch["train_batch_count"] for epoch in augmented.history_]
    longer = net(round(sum(steps) / steps[0]))
    plain = AugmentedClassifier(longer, synthetic_ratio=0, random_state=seed).fit(X_train, y_train)
    classifiers |= {f"plain, seed {seed}": plain, f"augmented, seed {seed}": augmented}
untrained = AugmentedClassifier(net(1, lr=0.0), synthetic_ratio=0, random_state=0)
classifiers["untrained"] = untrained.fit(X_train, y_train)
for name, classifier in classifiers.items():
    print(f"{name:<18} accuracy {classifier.score(X_test, y_test):.3f}")

# %%
# Where they look
# ---------------
# :class:`~tsynd_sk.inspection.AttributionDisplay` draws maps by EigenGradCAM: what a convolutional
# layer finds in an image, weighted by the gradient of the score of a class. Bright regions speak
# most for the class. Each map has its own scale, so it does not tell how sure a classifier is; the
# probability *p* below it does.
import matplotlib.pyplot as plt

from tsynd_sk.inspection import AttributionDisplay

first = {name: classifiers[f"{name}, seed 0"] for name in ["plain", "augmented"]}
AttributionDisplay.from_estimator(first, X_test[:6], y_test[:6]).plot()
plt.show()

# %%
# It is tempting to explain differences between the rows. Before you do, mind two things. The last
# convolution of this network has four by four positions, so finer structure is interpolated.
# (``layer=`` maps another layer; ``print(classifier.estimator_.module_)`` lists them.) And these
# are six images.
#
# Compare with controls
# ---------------------
# Do maps differ because of augmentation, or would another seed change them as much? We correlate
# the maps of more images, pixel by pixel, and add two controls: the untrained network, and the mean
# map of all other images, which knows nothing of the image itself.
n = 24
display = AttributionDisplay.from_estimator(classifiers, X_test[:n], y_test[:n])
maps = dict(zip(display.names, display.maps, strict=True))
reference = maps["plain, seed 0"]
maps["mean of the others"] = (reference.sum(axis=0) - reference) / (n - 1)


def correlations(first, second):
    pairs = zip(first.reshape(n, -1), second.reshape(n, -1), strict=True)
    # A constant map has no correlation.
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in pairs if a.std() and b.std()])


similarity = {
    name: correlations(reference, other) for name, other in maps.items() if name != "plain, seed 0"
}
fig, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
ax.boxplot(
    list(similarity.values()),
    tick_labels=[name.replace(" of", "\nof").replace(", ", ",\n") for name in similarity],
    widths=0.6,
    medianprops={"color": "#D55E00", "linewidth": 2},
    flierprops={"marker": ".", "markersize": 4, "markeredgecolor": "0.5"},
)
ax.set_ylabel("correlation with the map\nof plain, seed 0")
ax.grid(axis="y", color="0.9")
plt.show()
for name, values in similarity.items():
    print(f"{name:<20} median correlation {np.median(values):+.2f}, {len(values)} images")

# %%
# The second plain network shows what a seed alone changes. Only if the augmented networks lie
# clearly below it do maps differ *because* of augmentation. If a control lies as high as a trained
# network, maps are alike only because digits are in the middle.
#
# Does a map find what the network needs?
# ---------------------------------------
# We black out the sixteen pixels that a map calls most important, and look at the probability of
# the class. For comparison we black out the least important pixels, random ones, and those that are
# most important on average over the other images.
rng = np.random.default_rng(0)


def left_over(classifier, order):
    spoilt = X_test[:n].copy().reshape(n, -1)
    np.put_along_axis(spoilt, order[:, -16:], 0, axis=1)
    proba = classifier.predict_proba(spoilt.reshape(-1, 8, 8))
    return proba[np.arange(n), y_test[:n]].mean()


for name in ["plain, seed 0", "augmented, seed 0"]:
    own = maps[name].reshape(n, -1)
    orders = {
        "most important": own.argsort(axis=1),
        "least important": (-own).argsort(axis=1),
        "random": rng.random(own.shape).argsort(axis=1),
        "most important on average": ((own.sum(axis=0) - own) / (n - 1)).argsort(axis=1),
    }
    p = classifiers[name].predict_proba(X_test[:n])[np.arange(n), y_test[:n]].mean()
    print(f"{name}: mean probability of the class {p:.2f}; with sixteen pixels black,")
    for which, order in orders.items():
        print(f"  {which:<26} {left_over(classifiers[name], order):.2f}")

# %%
# A map finds what the network needs if the first number is well below the third. It tells something
# about *this* image only if the first number is below the last, too.
#
# What makes it doubt?
# --------------------
# :class:`~tsynd_sk.inspection.PerturbationDisplay` finds a small change that takes the probability
# of the class below one half. All classifiers are brought to the same doubt, so sizes of changes
# compare. All differences share one colour scale.
from tsynd_sk.inspection import PerturbationDisplay

PerturbationDisplay.from_estimator(first, X_test[:5], y_test[:5]).plot()
plt.show()

# %%
# An image whose class was unlikely from the start stays as it is. The changes follow the gradients
# of one network. They do not explain what it sees; they tell how close a decision is to turning.
# Again we look at more images and both seeds, among images that all four networks predict
# correctly:
names = [name for name in classifiers if name != "untrained"]
display = PerturbationDisplay.from_estimator(
    {name: classifiers[name] for name in names}, X_test[:n], y_test[:n]
)
sizes = np.sqrt(np.square(display.end - display.start).mean(axis=(2, 3)))
sure = (np.asarray(display.proba_before) >= 0.5).all(axis=0)
sizes = dict(zip(display.names, 255 * sizes[:, sure], strict=True))

fig, ax = plt.subplots(figsize=(4.4, 4.2), layout="constrained")
for seed, (marker, color) in enumerate([("o", "#0072B2"), ("^", "#D55E00")]):
    a, b = sizes[f"plain, seed {seed}"], sizes[f"augmented, seed {seed}"]
    ax.plot(a, b, marker, color=color, ms=5, alpha=0.7, label=f"seed {seed}")
    print(
        f"seed {seed}: median change plain {np.median(a):.1f}, augmented {np.median(b):.1f} grey "
        f"levels of 255; the augmented net needs more on {(b > a).mean():.0%} of {len(a)} images"
    )
a, b = sizes["plain, seed 0"], sizes["plain, seed 1"]
print(f"control: plain, seed 1 needs more than plain, seed 0 on {(b > a).mean():.0%}")
limits = [0, 1.05 * max(values.max() for values in sizes.values())]
ax.plot(limits, limits, color="0.5", lw=1)
ax.set(xlim=limits, ylim=limits, aspect="equal")
ax.set_xlabel("change for plain\n(root mean square, grey levels of 255)")
ax.set_ylabel("change for augmented\n(root mean square, grey levels of 255)")
ax.legend()
plt.show()

# %%
# Above the diagonal, the augmented network withstands a larger change. If both seeds agree, and lie
# further from 50 % than the control, that hints at more robustness. For a verdict use attacks, more
# seeds and a test: :ref:`sphx_glr_auto_examples_plot_robustness.py`.
#
# In short: maps show coarsely where a network finds evidence. They do not show that the evidence is
# right, nor that one classifier is better than another.
#
# Try next
# --------
# - Maps of a network of your own: :func:`tsynd_sk.inspection.eigen_grad_cam`.
# - Larger images, whose maps show more: :doc:`/guide/images`.
# - :doc:`/guide/evaluation` and :doc:`/guide/pitfalls`: what to report instead.
# - What synthesis changes in an image: :ref:`sphx_glr_auto_examples_plot_ascent.py`.
