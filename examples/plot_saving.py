"""
Saving and loading
==================

You will learn the two ways to keep a fitted estimator, a file of weights and a pickle, what each of
them holds, and what happens when a file is damaged or does not fit.
"""

# %%
# Something to save
# -----------------
import tempfile
from pathlib import Path

import numpy as np

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

X, y, _ = load_digits_images()
X_train, y_train, X_test, y_test = X[:150], y[:150], X[150:650], y[150:650]


def unfitted(width=16):
    return AugmentedClassifier(
        NetClassifier(max_epochs=20, lr=5e-3, module__width=width),
        TargetedSynthesizer(autoencoder=AutoencoderNet(max_epochs=5, module__width=32)),
        random_state=0,
    )


classifier = unfitted().fit(X_train, y_train)
print(f"accuracy {classifier.score(X_test, y_test):.3f}")

# %%
# Weights alone
# -------------
# ``save_params`` writes a safetensors file: numbers and text, and nothing that could be run.
# An estimator that is made in the same way takes it over by ``load_params``, in another process
# or on another machine, and answers to the bit as the one that was saved.
folder = tempfile.TemporaryDirectory()
file = Path(folder.name, "digits.safetensors")
classifier.save_params(file)

loaded = unfitted().load_params(file)
same = np.array_equal(loaded.predict_proba(X_test), classifier.predict_proba(X_test))
print("equal probabilities:", same)
same = np.array_equal(loaded.uncertainty(X_test), classifier.uncertainty(X_test))
print("equal uncertainties:", same)

# %%
# Any reader of safetensors shows what is in it: the weights and histories of both nets, the spread
# of the codes (``latent_scale``), and the range of the pixels. The parameters of the estimator
# are not, which is why you construct it yourself.
from safetensors import safe_open

with safe_open(file, framework="numpy") as contents:
    names = contents.keys()
    shapes = {name: contents.get_slice(name).get_shape() for name in names}
parts = sorted({name.split(".")[0] for name in shapes})
for part in parts:
    tensors = [shape for name, shape in shapes.items() if name.split(".")[0] == part]
    n_values = sum(int(np.prod(shape)) for shape in tensors)
    size = "text" if part.endswith("history") else f"{n_values} values"
    print(f"{part:<20}{len(tensors):>4} tensors, {size}")

# %%
# Training images stay out of the file unless you ask for them, for they may be confidential.
# Without them the synthesizer has nothing to sample from, and says so. It still synthesises from
# images that it is given:
try:
    loaded.synthesizer_.sample(5)
except ValueError as error:
    print(error)

before = classifier.synthesizer_.synthesize(X_test[:8], y_test[:8], random_state=0)[0]
after = loaded.synthesizer_.synthesize(X_test[:8], y_test[:8], random_state=0)[0]

import matplotlib.pyplot as plt

rows = {"image": X_test[:8], "synthetic,\nsaved": before, "synthetic,\nloaded": after}
fig, axes = plt.subplots(3, 8, figsize=(8, 3.3), layout="constrained")
for line, (name, images) in zip(axes, rows.items(), strict=True):
    line[0].set_ylabel(name)
    for ax, image in zip(line, images, strict=True):
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
plt.show()
print("equal images:", np.array_equal(before, after))

# %%
# The two lower rows are one and the same. With the training images in the file, ``sample`` works
# too:
with_images = Path(folder.name, "digits_with_images.safetensors")
classifier.save_params(with_images, with_images=True)
X_new, y_new = unfitted().load_params(with_images).synthesizer_.sample(5)
print("sampled:", X_new.shape)

# %%
# A file that is damaged, or does not fit
# ---------------------------------------
# Files are cut off by full disks and changed by bad ones. Here a single bit of a weight is flipped,
# the file is cut, and at last the whole file is given to an estimator with other parameters.
received = Path(folder.name, "received.safetensors")
whole = file.read_bytes()
flipped = bytearray(whole)
flipped[-100] ^= 1


def try_to_load(estimator, contents):
    received.write_bytes(contents)
    try:
        estimator.load_params(received)
        print("loaded")
    except ValueError as error:
        print(str(error).replace(str(received), received.name), "\n")


try_to_load(unfitted(), bytes(flipped))
try_to_load(unfitted(), whole[: len(whole) // 2])
try_to_load(unfitted(width=8), whole)

# %%
# An estimator that refuses a file stays as it was: what it had learnt before is still there.
try_to_load(classifier, whole[: len(whole) // 2])
print(f"accuracy {classifier.score(X_test, y_test):.3f}")

# %%
# The whole estimator
# -------------------
# ``pickle`` and ``joblib`` keep all of it, with parameters, optimisers and training images, and
# need nothing to be constructed. Two things speak against it. Whoever reads a pickle runs what is
# in it, so read those of people you trust only. And it holds classes by name: those of your own
# have to be in a module that can be imported where it is read, and in versions that agree.
import joblib

pickled = Path(folder.name, "digits.joblib")
joblib.dump(classifier, pickled)
whole_estimator = joblib.load(pickled)
same = np.array_equal(whole_estimator.predict_proba(X_test), classifier.predict_proba(X_test))
print("equal probabilities:", same, "\n")

for path, images in [(file, "no"), (with_images, "yes"), (pickled, "yes")]:
    print(f"{path.name:<34} {path.stat().st_size / 1024:7.0f} KiB   training images: {images}")

folder.cleanup()

# %%
# Which one?
# ----------
# To hand a model on, to keep it for years, or where images must not leave the house: weights,
# together with the code that constructs the estimator. To go on tomorrow where you stopped today:
# a pickle.
#
# Try next
# --------
# - :doc:`/guide/saving` tells the details: accelerators, interruptions, nets of your own.
# - :doc:`/guide/reproducibility`: what has to be equal for the same training to give the same
#   weights again.
# - Save an autoencoder that many images have trained, and load it frozen: :doc:`/guide/unlabelled`,
#   and what it is good for: :ref:`sphx_glr_auto_examples_plot_unlabelled.py`.
