"""
Does targeted synthesis help on few images?
===========================================

You will learn how to compare targeted images with plain training and with standard augmentation,
how to train the classifier that you choose, and how to look at the images that it was trained on.
"""

# %%
# Images
# ------
# We use scikit-learn's digits. Images are an array of shape (n, height, width); labels may be of
# any type.
from tsynd_sk.datasets import load_digits_images

X, y, class_names = load_digits_images()
X, y = X[:400], y[:400]
print(X.shape, X.dtype, X.min(), X.max())

# %%
# Compare three ways to train
# ---------------------------
# :func:`~tsynd_sk.comparison.compare` trains the same network in three ways:
#
# - ``plain``: on the images as they are;
# - ``standard``: with standard augmentation, which turns, scales and shifts each image at random;
# - ``standard+mutual_info``: with standard augmentation and with targeted images, which are
#   synthesised where the network is uncertain.
#
# Standard augmentation is there because it is what you would use without this library. A comparison
# with plain training alone would credit synthesis with what any augmentation does.
#
# Each run trains on 100 images and holds out others to score on. All ways take equally many
# gradient steps. ``flip=False`` says that a mirrored digit is no longer the same digit.
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.comparison import compare

net = NetClassifier(module__width=8, lr=1e-2, max_epochs=40)
arms = ["plain", "standard", "standard+mutual_info"]
result = compare(net, X, y, arms=arms, n_train=100, n_repeats=3, flip=False)
print(result)

# %%
# Read the verdict, below the table, first. Then read the columns with differences: "to twin" sets
# targeted images against standard augmentation alone. "Corrupt" is the mean over twelve kinds of
# damage, such as blur, noise and turns. The picture shows each difference with its interval:
import matplotlib.pyplot as plt

result.plot("perturbed_roc_auc")
plt.show()

# %%
# If an interval includes zero, the runs do not tell which arm is better. Three runs give wide
# intervals; take five or more for a result. On the command line, ``python -m tsynd_sk --dataset
# FOLDER --seeds 5`` runs such a comparison on your images.
#
# Train the classifier
# --------------------
# :class:`~tsynd_sk.AugmentedClassifier` is a classifier like those of scikit-learn. After a warm-up
# it alternates training and synthesis. An autoencoder encodes real images, gradient ascent moves
# their codes to where versions of the network disagree, and the new images are added to the
# training set.
from tsynd_sk import AugmentedClassifier

classifier = AugmentedClassifier(net, random_state=0).fit(X[:100], y[:100])
print(f"accuracy on other images: {classifier.score(X[100:], y[100:]):.3f}")

# %%
# To train one of the compared ways, take ``result.make_estimator("standard+mutual_info")``.
#
# Look at the synthetic images
# ----------------------------
# The fitted :class:`~tsynd_sk.TargetedSynthesizer` is ``synthesizer_``. ``sample`` draws labelled
# images from it.
synthesizer = classifier.synthesizer_
X_new, y_new, info = synthesizer.sample(100, return_info=True)

print(f"MI of real images:      {info.uncertainty_source.mean():.3f} nats")
print(f"MI of synthetic images: {info.uncertainty.mean():.3f} nats")
print(f"predicted as labelled:  {info.label_agreement.mean():.0%}")

# %%
# Mutual information (MI) measures how much versions of the network disagree about an image.
# Synthesis raises it. Each synthetic image keeps the label of its source.
from tsynd_sk.inspection import SynthesisDisplay

# sphinx_gallery_thumbnail_number = 2
SynthesisDisplay.from_estimator(synthesizer, X[:100], random_state=0).plot()
plt.show()

# %%
# Read a column from top to bottom: a real image, its synthetic image, and the difference. Would you
# give the synthetic image the same label? If not, choose a smaller ``radius``, which keeps images
# closer to their sources.
#
# Try next
# --------
# - Images of your own, in a folder: :ref:`sphx_glr_auto_examples_plot_own_images.py`.
# - A network of your own, as the first argument of ``AugmentedClassifier``:
#   :doc:`/guide/wrapping_nets`.
# - How an image is targeted: :ref:`sphx_glr_auto_examples_plot_ascent.py`.
# - Whether the method suits your data at all: :doc:`/guide/choose`.
