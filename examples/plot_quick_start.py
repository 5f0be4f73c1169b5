"""
Quick start on digits
=====================

You will learn how to train a classifier on few images and on images that are synthesised against
it, how to draw such images and look at them, and how to judge whether they helped.
"""

# %%
# A hundred labelled images
# -------------------------
# scikit-learn's embedded digits, of which we pretend that only a hundred are labelled. Images are
# an array of shape (n, height, width); labels may be of any type.
from sklearn.model_selection import train_test_split

from tsynd_sk.datasets import load_digits_images

X, y, class_names = load_digits_images()
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=100, test_size=450, stratify=y, random_state=0
)
print("training:", X_train.shape, "test:", X_test.shape)

# %%
# Train
# -----
# :class:`~tsynd_sk.AugmentedClassifier` is a classifier like any other of scikit-learn. After a
# warm-up it alternates training and synthesis: it moves the codes of real images, in the latent
# space of an autoencoder, to where versions of the net disagree, decodes them, and goes on training
# on real and synthetic images together. Nets that are not given are made to fit the images.
from tsynd_sk import AugmentedClassifier

classifier = AugmentedClassifier(random_state=0).fit(X_train, y_train)
print(f"accuracy {classifier.score(X_test, y_test):.3f}")

# %%
# Look at what is synthesised
# ---------------------------
# Its ``synthesizer_`` is a :class:`~tsynd_sk.TargetedSynthesizer` that is fitted against the
# trained net. It can be fitted by itself, too, if it is images that you want and no classifier.
# ``sample`` gives labelled images, and tells where they come from.
synthesizer = classifier.synthesizer_
X_new, y_new, info = synthesizer.sample(100, return_info=True)

print(f"mutual information, sources:    {info.uncertainty_source.mean():.3f} nats")
print(f"mutual information, synthetic:  {info.uncertainty.mean():.3f} nats")
print(f"label predicted:                {info.label_agreement.mean():.0%}")

# %%
# Mutual information says how much the versions of the net disagree about an image; it is what the
# synthesis raises. The label is that of the source, and the share in the last line is still taken
# for it by the net. What changed, image by image:
import matplotlib.pyplot as plt

from tsynd_sk.inspection import SynthesisDisplay

SynthesisDisplay.from_estimator(synthesizer, X_train, random_state=0).plot()
plt.show()

# %%
# Read a column from top to bottom: a real image, what was made of it, and the difference. Would you
# give the synthetic image the same label? If not, a smaller ``radius`` stays closer to the source.
#
# Did it help?
# ------------
# Compare with the same net on real images alone, ``synthetic_ratio=0``. Synthetic rows add gradient
# steps to an epoch, which alone can make a difference. To be fair, the other net trains for more
# epochs, until it has made as many steps.
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.evaluation import corruption_scores


def n_steps(classifier):
    return sum(epoch["train_batch_count"] for epoch in classifier.history_)


# No synthetic rows are there yet in the first epoch.
epochs = round(n_steps(classifier) / classifier.history_[0]["train_batch_count"])
alone = AugmentedClassifier(NetClassifier(max_epochs=epochs), synthetic_ratio=0, random_state=0)
alone.fit(X_train, y_train)

print(f"{'':<22}{'steps':>6}{'accuracy':>10}{'corrupted':>11}")
for name, one in {"real images alone": alone, "with targeted images": classifier}.items():
    corrupted = corruption_scores(one, X_test, y_test, severities=[3], random_state=0)
    print(
        f"{name:<22}{n_steps(one):>6}{one.score(X_test, y_test):>10.3f}"
        f"{corrupted.mean['balanced_accuracy']:>11.3f}"
    )

# %%
# The last column is the balanced accuracy on test images that are blurred, turned, noisy and so
# on: twelve kinds of corruption at a middle severity.
#
# One split and one seed say little, whichever row leads. ``python -m tsynd_sk`` compares on several
# splits at an equal number of steps, with standard errors, with standard augmentation as a rival,
# and with controls in which images are not targeted.
#
# Try next
# --------
# - Images of your own: :doc:`/guide/images`. A net of your own, as the first argument of
#   ``AugmentedClassifier``: :doc:`/guide/wrapping_nets`.
# - How an image is targeted: :ref:`sphx_glr_auto_examples_plot_ascent.py` and
#   :doc:`/guide/method`.
# - Robustness, with intervals and tests: :ref:`sphx_glr_auto_examples_plot_robustness.py`.
# - Whether the method is one for your data at all: :doc:`/guide/choose`.
