"""
How do I save and load a classifier?
====================================

You will learn two ways to save a fitted estimator, as a file of weights and as a pickle, what each
holds, and what happens when a file is damaged or does not fit.
"""

# %%
# A fitted classifier
# -------------------
import tempfile
from pathlib import Path

import numpy as np

from tsynd_sk import AugmentedClassifier
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

X, y, _ = load_digits_images()
X_train, y_train, X_test, y_test = X[:150], y[:150], X[150:650], y[150:650]


def unfitted(width=16):
    return AugmentedClassifier(
        NetClassifier(max_epochs=8, lr=1e-2, module__width=width), random_state=0
    )


classifier = unfitted().fit(X_train, y_train)
print(f"accuracy {classifier.score(X_test, y_test):.3f}")

# %%
# Save the weights
# ----------------
# ``save_params`` writes a safetensors file: numbers and text, no code. ``load_params`` loads it
# into an estimator that is made in the same way. Predictions are equal to the bit.
folder = tempfile.TemporaryDirectory()
file = Path(folder.name, "digits.safetensors")
classifier.save_params(file)

loaded = unfitted().load_params(file)
same = np.array_equal(loaded.predict_proba(X_test), classifier.predict_proba(X_test))
print("equal probabilities:", same)
same = np.array_equal(loaded.uncertainty(X_test), classifier.uncertainty(X_test))
print("equal uncertainties:", same)

# %%
# The file holds the weights and histories of both networks, the spread of the codes
# (``latent_scale``) and the range of the pixels. It does not hold the parameters of the estimator,
# which is why you construct it yourself. Any reader of safetensors can list the contents:
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
# Without training images the loaded synthesizer cannot ``sample``, but it can ``synthesize`` from
# images that you give:
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
# The two lower rows are equal. With training images in the file, ``sample`` works, too:
with_images = Path(folder.name, "digits_with_images.safetensors")
classifier.save_params(with_images, with_images=True)
X_new, y_new = unfitted().load_params(with_images).synthesizer_.sample(5)
print("sampled:", X_new.shape)

# %%
# What if a file is damaged or does not fit?
# ------------------------------------------
# We flip a single bit of a weight, cut the file in half, and load the intact file into an estimator
# with other parameters. Each attempt raises an error with the reason:
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
# After such an error the estimator still has what it had learnt:
try_to_load(classifier, whole[: len(whole) // 2])
print(f"accuracy {classifier.score(X_test, y_test):.3f}")

# %%
# Pickle the whole estimator
# --------------------------
# ``pickle`` and ``joblib`` save everything, training images included, so you construct nothing to
# load it. Loading a pickle runs code. :doc:`/guide/saving` says when to use which.
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
# Try next
# --------
# - :doc:`/guide/saving`: accelerators, interruptions, networks of your own.
# - :doc:`/guide/reproducibility`: how to get the same weights again.
# - Save an autoencoder and load it frozen: :doc:`/guide/unlabelled`.
