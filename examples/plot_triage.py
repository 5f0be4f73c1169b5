"""
Uncertainty for triage
======================

You will learn how to let a classifier refuse the images that it is most uncertain about, how to
choose the threshold, which mistakes slip through all the same, and whether training on targeted
images makes a classifier better at this.
"""

# %%
# Two classifiers
# ---------------
# A hundred digits are labelled for training. Validation images choose thresholds, and test images
# judge them, also under noise. The plain classifier is the same net, trained on real images alone,
# for so many epochs that both make as many gradient steps.
import numpy as np
from sklearn.model_selection import train_test_split

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images
from tsynd_sk.evaluation import corrupt

X, y, _ = load_digits_images()


def split(seed):
    X_train, X_rest, y_train, y_rest = train_test_split(
        X, y, train_size=100, stratify=y, random_state=seed
    )
    X_val, X_test, y_val, y_test = train_test_split(
        X_rest, y_rest, train_size=300, test_size=800, stratify=y_rest, random_state=seed
    )
    noisy = corrupt(X_test, "noise", severity=5, random_state=seed)
    images = {"train": X_train, "val": X_val, "test": X_test, "noisy": noisy}
    return images, {"train": y_train, "val": y_val, "test": y_test, "noisy": y_test}


def net(max_epochs):
    return NetClassifier(max_epochs=max_epochs, lr=5e-3, module__width=16)


def fitted(images, labels, seed):
    synthesizer = TargetedSynthesizer(autoencoder=AutoencoderNet(max_epochs=5, module__width=32))
    augmented = AugmentedClassifier(net(60), synthesizer, random_state=seed)
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
# How uncertain of what?
# ----------------------
# The left panel shows, for each set, the share of its images with at most so much mutual
# information. On the right the most uncertain images are rejected, more and more of them from left
# to right, and the curve is the accuracy on those that remain. Thin level lines are what rejecting
# at random would leave.
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
# - Curves of unseen images that lie to the right of that of the training images, on the left. The
#   net is more certain of what it has learnt by heart. So thresholds should come from images that
#   it has not seen.
# - Curves that rise, on the right. The steeper the rise at the left end, the more of the images
#   that are rejected first are mistakes.
# - Curves that bend down, or wave, at the right end. Few images remain there, and one mistake among
#   them weighs much.
#
# A threshold
# -----------
# Say that somebody can look at a fifth of the images. The threshold is the uncertainty that a fifth
# of the validation images exceed. How many of other images exceed it nobody has promised:
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
# Thresholds are in nats of their own classifier, and cannot be carried over to another. On noisy
# images, compare the share that is rejected with the fifth that was planned, for it is what
# somebody has to look at, and the accuracy on the rest with that on clean images. Uncertainty that
# knew all about the noise would pay for it by the first alone, and keep the second.
#
# What slips through
# ------------------
# Above are the images that the augmented classifier is most uncertain of, below those of its
# mistakes that it is least uncertain of. Titles tell the true label and the predicted one.
from collections import Counter

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
        ax.set_title(f"{labels['test'][i]}, taken for {predicted[i]}", fontsize=8)
        ax.set_xlabel(f"{uncertainty[i]:.2f} nats", fontsize=8)
        ax.set(xticks=[], yticks=[])
plt.show()

pairs = zip(labels["test"][order[wrong]].tolist(), predicted[order[wrong]].tolist(), strict=True)
(true, taken), count = Counter(pairs).most_common(1)[0]
print(f"{wrong.sum()} mistakes; {count} of them are a {true} taken for a {taken}")

# %%
# Mutual information tells whether members disagree, and members of one net can agree on a mistake.
# They share its training images and most of its weights, and with them what it has got wrong as a
# habit. Look for a habit in the lower row, and in the line above: where one confusion makes up many
# of the mistakes, a few more labelled images of that kind help more than any threshold.
#
# Plain against augmented, and against a rival
# --------------------------------------------
# The display takes arrays, too, and so compares classifiers on one set:
compared = {}
for name, classifier in classifiers.items():
    one = UncertaintyDisplay.from_estimator(
        classifier, {name: images["test"]}, {name: labels["test"]}
    )
    compared[name] = one.uncertainty[name], one.correct[name]
UncertaintyDisplay(
    {name: values for name, (values, _) in compared.items()},
    {name: correct for name, (_, correct) in compared.items()},
).plot()
plt.show()

# %%
# The height of a curve has two parts: how good the classifier is, where the curve starts, and how
# well its uncertainty finds its mistakes, the rise. The ROC AUC measures the second one alone: how
# often a mistake is more uncertain than a right prediction. 0.5 is chance. And uncertainty has a
# rival that needs no members: the entropy of what the net predicts. Four splits, each with nets of
# its own:
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
for seed in range(4):
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


print("\ndifferences; (*): p below a sixth of 0.05, for there are six tests")
for group in ["test", "noisy"]:
    plain, augmented = results[group, "plain"], results[group, "augmented"]
    tell(f"{group}: augmented - plain, accuracy", augmented[:, 0] - plain[:, 0])
    tell(f"{group}: augmented - plain, AUC of MI", augmented[:, 2] - plain[:, 2])
    tell(f"{group}: MI - entropy, AUC, augmented", augmented[:, 2] - augmented[:, 4])

# %%
# "Rest" is the accuracy after a fifth was rejected. The last lines pair the splits, and test by
# Student's t whether their differences are zero on average. Without a star a difference is a hint
# at most: of four splits only large ones can be told from chance. Read the lines in this order:
# does the augmented classifier make fewer mistakes; does its uncertainty find them better; and is
# mutual information worth its members at all? Where the sign of the last is a minus, plain entropy,
# which costs one prediction, was the better reason to reject. That is no contradiction to the
# method. Entropy also counts images that lie between two classes, on which mistakes are made
# whatever one learns; mutual information leaves them out, for no synthesis can help there.
#
# The first answer hangs on details, such as the number of epochs: try half as many.
# :doc:`/evidence` has the comparison that counts.
#
# Try next
# --------
# - Sets unlike those of training, and members of an ensemble, which disagree in more ways:
#   :ref:`sphx_glr_auto_examples_plot_deep_ensemble.py`.
# - :doc:`/guide/members`: more members, Laplace, ensembles.
# - Images that are rejected are the ones to have labelled next; :doc:`/guide/choose` says why
#   that can beat synthesis.
# - :doc:`/guide/pitfalls`: thresholds and small test sets.
