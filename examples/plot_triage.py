"""
Which images should a person look at?
=====================================

You will learn how to pass the images that a classifier is most uncertain about to a person, how to
choose the threshold, which mistakes slip through, and whether training on targeted images helps.
"""

# %%
# Two classifiers
# ---------------
# A hundred digits are labelled for training. Thresholds are chosen on validation images and judged
# on test images, with and without noise. The plain classifier is the same network, trained on real
# images alone. It gets more epochs, so that both make as many gradient steps.
import numpy as np
from sklearn.model_selection import train_test_split

from tsynd_sk import AugmentedClassifier
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images
from tsynd_sk.evaluation import corrupt

X, y, _ = load_digits_images()


def split(seed):
    X_train, X_rest, y_train, y_rest = train_test_split(
        X, y, train_size=100, stratify=y, random_state=seed
    )
    X_val, X_test, y_val, y_test = train_test_split(
        X_rest, y_rest, train_size=300, test_size=500, stratify=y_rest, random_state=seed
    )
    noisy = corrupt(X_test, "noise", severity=5, random_state=seed)
    images = {"train": X_train, "val": X_val, "test": X_test, "noisy": noisy}
    return images, {"train": y_train, "val": y_val, "test": y_test, "noisy": y_test}


def net(max_epochs):
    return NetClassifier(max_epochs=max_epochs, lr=1e-2, module__width=12)


def fitted(images, labels, seed):
    augmented = AugmentedClassifier(net(25), random_state=seed)
    augmented.fit(images["train"], labels["train"])
    steps = [epoch["train_batch_count"] for epoch in augmented.history_]
    epochs = round(sum(steps) / steps[0])
    plain = AugmentedClassifier(net(epochs), synthetic_ratio=0, random_state=seed)
    return {"plain": plain.fit(images["train"], labels["train"]), "augmented": augmented}


images, labels = split(seed=0)
classifiers = fitted(images, labels, seed=0)
for name, classifier in classifiers.items():
    print(f"{name:<10} accuracy {classifier.score(images['test'], labels['test']):.3f}")

# %%
# How uncertain is it?
# --------------------
# The left panel shows, for each set, the share of images with at most so much mutual information.
# On the right, more and more of the most uncertain images are rejected from left to right; the
# curve is the accuracy on the rest. Thin level lines show rejection at random.
import matplotlib.pyplot as plt

from tsynd_sk.inspection import UncertaintyDisplay

shown = ["train", "test", "noisy"]
display = UncertaintyDisplay.from_estimator(
    classifiers["augmented"],
    {name: images[name] for name in shown},
    {name: labels[name] for name in shown},
)
display.plot()
plt.show()

# %%
# Three things to look for:
#
# - Left: do curves of unseen images lie to the right of the training images' curve? The network is
#   more certain about images that it has seen. So choose thresholds on images that it has not seen.
# - Right: do curves rise? The steeper they start, the more of the first rejected images are
#   mistakes.
# - Right: do curves waver at the end? Few images remain there, and one mistake weighs much.
#
# Choose a threshold
# ------------------
# Say that a person can look at a fifth of the images. The threshold is the uncertainty that a fifth
# of the validation images exceed. Nothing guarantees that a fifth of other images exceed it, too:
for name, classifier in classifiers.items():
    threshold = np.quantile(classifier.uncertainty(images["val"]), 0.8)
    print(f"{name}, threshold {threshold:.3f} nats")
    for group in ["val", "test", "noisy"]:
        rejected = classifier.uncertainty(images[group]) > threshold
        right = classifier.predict(images[group]) == labels[group]
        print(
            f"  {group:<6} rejected {rejected.mean():.1%}, accuracy {right.mean():.3f} in all, "
            f"{right[~rejected].mean():.3f} on the rest"
        )

# %%
# A threshold holds for its own classifier only. On noisy images, compare the rejected share with
# the planned fifth, and the accuracy on the rest with that on clean images. Ideal uncertainty would
# reject more noisy images and keep the accuracy on the rest.
#
# Which mistakes slip through?
# ----------------------------
# Top row: the images that the augmented classifier is most uncertain about. Bottom row: its
# mistakes that it is least uncertain about. Titles give the true label, then the predicted one.
from collections import Counter

# sphinx_gallery_thumbnail_number = 2
classifier = classifiers["augmented"]
uncertainty = classifier.uncertainty(images["test"])
predicted = classifier.predict(images["test"])
order = np.argsort(-uncertainty)
wrong = predicted[order] != labels["test"][order]
rows = {"most\nuncertain": order[:8], "mistakes,\nmost certain": order[wrong][::-1][:8]}
fig, axes = plt.subplots(2, 8, figsize=(8.6, 2.9), layout="constrained")
for line, (name, chosen) in zip(axes, rows.items(), strict=True):
    line[0].set_ylabel(name)
    for ax, i in zip(line, chosen, strict=True):
        ax.imshow(images["test"][i], cmap="gray", vmin=0, vmax=1)
        ax.set_title(f"{labels['test'][i]}, predicted {predicted[i]}", fontsize=8)
        ax.set_xlabel(f"{uncertainty[i]:.2f} nats", fontsize=8)
        ax.set(xticks=[], yticks=[])
plt.show()

pairs = zip(labels["test"][order[wrong]].tolist(), predicted[order[wrong]].tolist(), strict=True)
(true, wrongly), count = Counter(pairs).most_common(1)[0]
print(f"{wrong.sum()} mistakes; {count} of them are a {true} predicted as {wrongly}")

# %%
# Mutual information measures whether members disagree. The members of one network can agree on a
# mistake, because they share its training images and most of its weights. If one confusion makes up
# many of the mistakes, a few more labelled images of that kind help more than any threshold.
#
# Does targeted training help, and do members?
# --------------------------------------------
# How well does uncertainty find mistakes? The ROC AUC tells how often a mistake is more uncertain
# than a correct prediction; 0.5 is chance. Uncertainty has a rival that needs no members: the
# entropy of the prediction. We compare both, on three splits with networks of their own:
from scipy.stats import ttest_1samp
from sklearn.metrics import roc_auc_score


def measure(classifier, images, labels):
    right = classifier.predict(images) == labels
    proba = classifier.predict_proba(images)
    scores = {
        "mutual information": classifier.uncertainty(images),
        "entropy": -(proba * np.log(proba.clip(1e-30))).sum(axis=1),
    }
    found = {"accuracy": right.mean()}
    for score, values in scores.items():
        certain = np.argsort(values, kind="stable")[: round(0.8 * len(values))]
        found[f"rest, {score}"] = right[certain].mean()
        found[f"AUC, {score}"] = roc_auc_score(~right, values)
    return found


results = {}
for seed in range(3):
    if seed:
        images, labels = split(seed)
        classifiers = fitted(images, labels, seed)
    for name, classifier in classifiers.items():
        for group in ["test", "noisy"]:
            found = measure(classifier, images[group], labels[group])
            results.setdefault((group, name), []).append(list(found.values()))
results = {key: np.array(values) for key, values in results.items()}

columns = ["accuracy", "rest, MI", "AUC, MI", "rest, entropy", "AUC, entropy"]
print(f"{'':<18}" + "".join(f"{column:>15}" for column in columns))
for (group, name), values in results.items():
    print(f"{group + ', ' + name:<18}" + "".join(f"{value:15.3f}" for value in values.mean(0)))


def tell(what, difference):
    p = ttest_1samp(difference, 0).pvalue
    print(f"{what:<38}{difference.mean():+.3f}, p = {p:.3f}{' (*)' if p < 0.05 / 6 else ''}")


print("\ndifferences; (*): p below 0.05 / 6, as there are six tests")
for group in ["test", "noisy"]:
    plain, augmented = results[group, "plain"], results[group, "augmented"]
    tell(f"{group}: augmented - plain, accuracy", augmented[:, 0] - plain[:, 0])
    tell(f"{group}: augmented - plain, AUC of MI", augmented[:, 2] - plain[:, 2])
    tell(f"{group}: MI - entropy, AUC, augmented", augmented[:, 2] - augmented[:, 4])

# %%
# "Rest" is the accuracy after a fifth was rejected. The last lines pair the splits and test, by
# Student's t, whether differences are zero on average. Three splits show large differences only.
# Read the lines in this order: does the augmented classifier make fewer mistakes? Does its
# uncertainty find them better? Is mutual information better than entropy? A minus in the last lines
# says that entropy, which costs one prediction, finds mistakes better: then use entropy to choose
# the images that a person looks at. That does not contradict the method: entropy also counts images
# between two classes, which no synthesis can resolve.
#
# :doc:`/evidence` has the comparison on medical images.
#
# Try next
# --------
# - Images unlike those of training, and ensembles:
#   :ref:`sphx_glr_auto_examples_plot_deep_ensemble.py`.
# - :doc:`/guide/members`: more members, Laplace, ensembles.
# - Have the rejected images labelled; :doc:`/guide/choose` says why that can beat synthesis.
# - :doc:`/guide/pitfalls`: thresholds and small test sets.
