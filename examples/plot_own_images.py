"""
Images of your own
==================

You will learn how image files and arrays of your own become what the estimators take, what the
networks then see of them, and what comes back. The files are made here, in a temporary folder, with
the faults that real folders have.
"""

# %%
# A folder of image files
# -----------------------
# One subfolder for each class is all it takes. Ours holds scikit-learn's digits as PNG files of
# different sizes, few of one class, and among them a file with 16 bits a pixel.
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tsynd_sk.datasets import load_digits_images

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name, "scans")
digits, labels, _ = load_digits_images()
rng = np.random.default_rng(0)
for name, digit, n_files in [("common", 3, 120), ("rare", 8, 12)]:
    (folder / name).mkdir(parents=True)
    for k, image in enumerate(digits[labels == digit][:n_files]):
        side = int(rng.integers(16, 33))
        picture = Image.fromarray(np.rint(255 * image).astype(np.uint8))
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
        if k == 0:
            picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
        picture.save(folder / name / f"{k:03}.png")

# %%
# All images of an array have one size. Where files differ, they are resized until they fill a
# square, and their centres are cropped. ``notes`` says what was chosen; ``size="native"`` would
# leave images as they are, and so refuses these:
from tsynd_sk.datasets import load_image_folder

print(*load_image_folder(folder, verbose=False).notes, sep="\n")
try:
    load_image_folder(folder, size="native", verbose=False)
except ValueError as error:
    print(str(error).replace(str(folder), "scans"))

# %%
# A file that cannot be read is an error that names it, or left out, with a warning that counts, as
# is everything else that is no image. We cut one short:
import warnings

damaged = folder / "common" / "005.png"
damaged.write_bytes(damaged.read_bytes()[:100])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    data = load_image_folder(folder, size=16, on_error="skip", verbose=False)
for warning in caught:
    print(str(warning.message).replace(str(folder), "scans"))

# %%
# The result is a :class:`~sklearn.utils.Bunch`: images, class codes, the names that the codes stand
# for, where each image is from, and how it was read. :func:`~tsynd_sk.datasets.read_images` reads
# further files in the same way: those that a fitted classifier is to be asked about, say.
from tsynd_sk.datasets import read_images

X, y, class_names = data.X, data.y, data.class_names
print(X.shape, X.dtype, f"values from {X.min()} to {X.max()}")
print(data.reading)
again = read_images(folder / data.files[7], like=data)
print("read once more, equal to the bit:", bool((again[0] == X[7]).all()))
for code, name in enumerate(class_names):
    print(f"{(y == code).sum():>4} images of class {code}, {name!r}")

# %%
# Few labels
# ----------
# :func:`~tsynd_sk.datasets.subsample` draws rows and keeps the shares of the classes, with one row
# of each at least. Drawn without regard to classes, a rare one varies in number, or is lost:
from tsynd_sk.datasets import subsample

for stratify in (True, False):
    drawn = [
        int((y[subsample(y, 20, stratify=stratify, random_state=seed)] == 1).sum())
        for seed in range(10)
    ]
    print(f"stratify={stratify!s:<6} images of the rare class among 20, ten draws: {drawn}")

rows = subsample(y, 60, random_state=0)
rest = np.setdiff1d(np.arange(len(y)), rows)
X_train, y_train, X_test, y_test = X[rows], y[rows], X[rest], y[rest]

# %%
# One file for all splits
# -----------------------
# A folder may hold ``train``, ``val`` and ``test``, each with a subfolder for every class; then
# ``data.split`` says which is which. The other common form is an ``.npz`` file with MedMNIST's
# names. Labels may be words: codes follow their sorted order in all splits together, so that they
# mean the same in each. What comes is a :class:`~tsynd_sk.datasets.LabeledImages`, a named tuple of
# images, codes and names.
from tsynd_sk.datasets import load_npz

file = Path(temporary.name, "scans.npz")
words = np.array(class_names)
np.savez_compressed(
    file,
    train_images=X_train,
    train_labels=words[y_train],
    test_images=X_test,
    test_labels=words[y_test],
)
again = load_npz(file, split="test")
print(again.class_names, np.array_equal(again.X, X_test), np.array_equal(again.y, y_test))

# %%
# MedMNIST's own files come by :func:`~tsynd_sk.datasets.load_medmnist`, by name:
# ``load_medmnist("breastmnist", split="train", n_samples=100, random_state=0)``. It downloads a
# file once, into the folder that you name as ``root``, and compares its checksum with the official
# one each time. Where there is no network, ``download=False`` says what is missing and where it is
# to be had:
from tsynd_sk.datasets import load_medmnist

try:
    load_medmnist("breastmnist", root=temporary.name, download=False)
except FileNotFoundError as error:
    print(str(error).replace(temporary.name, "FOLDER"))

# %%
# What networks see
# -----------------
# Networks get float32 of shape (n, C, H, W), whatever you have.
# :class:`~tsynd_sk.images.ImageFormat` finds out how an array is laid out, and converts it in both
# directions. The estimators do this for you; ask it if you want to know how yours are read.
from tsynd_sk.images import ImageFormat

colour = np.repeat(X_train[..., None], 3, axis=-1)
forms = {
    "grey, uint8": X_train,
    "colour, channels last": colour,
    "colour, channels first": np.moveaxis(colour, -1, 1),
    "floats from 0 to 1": X_train / 255,
    "integers of 16 bits": X_train.astype(np.uint16) * 257,
}
print(f"{'':<24}{'shape':<18}{'dtype':<10}{'seen as':<18}{'largest value seen':>20}")
for name, images in forms.items():
    seen = ImageFormat.infer(images).to_tensor(images)
    shown = f"{images.shape!s:<18}{images.dtype!s:<10}{tuple(seen.shape)!s:<18}"
    print(f"{name:<24}{shown}{seen.max():>20}")

# %%
# uint8 alone is divided by 255. All else passes as it is, for it may have been scaled on purpose.
# Networks rarely train on values in the thousands: scale 16 bits yourself, by ``X / 65535``.
# Shapes that can be read in two ways are refused:
try:
    ImageFormat.infer(np.zeros((10, 3, 64, 3)))
except ValueError as error:
    print(error)

# %%
# :class:`~tsynd_sk.images.ValueRange` is what synthetic images are held to: the range of the
# real ones, and the steps of their type. Here is what it makes of values between and beyond them:
from tsynd_sk.images import ValueRange

form = ImageFormat.infer(X_train)
allowed = ValueRange.of(X_train, form)
print(f"from {allowed.low:.3f} to {allowed.high:.3f}, {allowed.levels} steps in a unit")

given = form.to_tensor(X_train[:1]) + 0.3
held = allowed.clip(given)
print(f"given up to {given.max():.3f}, held to {held.max():.3f}")
as_array = form.to_array(held)
print("equal after the way to uint8 and back:", bool((form.to_tensor(as_array) == held).all()))

# %%
# That last line matters: what members say of a synthetic image, they say of the very image that you
# get, and not of one before rounding.
#
# What comes back
# ---------------
# Layout, dtype and range are those of your images.
from tsynd_sk import TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier

synthesizer = TargetedSynthesizer(
    NetClassifier(max_epochs=12, module__width=8),
    AutoencoderNet(max_epochs=8, module__width=16),
    random_state=0,
).fit(X_train, y_train)
X_new, y_new, info = synthesizer.sample(y={1: 8}, return_info=True)
print(X_new.shape, X_new.dtype, f"values from {X_new.min()} to {X_new.max()}")
print("taken for rare:", " ".join("yes" if agreed else "no" for agreed in info.label_agreement))

import matplotlib.pyplot as plt

shown = {
    "common": X_train[y_train == 0][:8],
    "rare": X_train[np.resize(np.flatnonzero(y_train == 1), 8)],
    "source": X_train[info.source_index],
    "synthetic": X_new,
}
figure, axes = plt.subplots(4, 8, figsize=(8, 4.4), layout="constrained")
for line, (name, images) in zip(axes, shown.items(), strict=True):
    line[0].set_ylabel(name)
    for ax, image in zip(line, images, strict=True):
        ax.imshow(image, cmap="gray", vmin=0, vmax=255)
        ax.set(xticks=[], yticks=[])
plt.show()

# %%
# (The rare class has fewer than eight images, so that they repeat, as sources do.) All synthetic
# images are labelled as rare, also those that the printed line says the classifier takes for
# others; one that has seen few images of a class soon does. The common class are threes, the rare
# one eights. Is there an eight here that has become a three? Then its label is wrong, whatever the
# classifier says, and images that you mean to keep should stay closer to their sources, by a
# smaller ``radius``, or on the right side of the classifier, by ``label_policy="constrain"``.
#
# Synthetic images that you keep as files belong in a folder of their own, never among the real
# ones:
synthetic = Path(temporary.name, "synthetic", "rare")
synthetic.mkdir(parents=True)
for k, image in enumerate(X_new):
    Image.fromarray(image).save(synthetic / f"from_{info.source_index[k]:03}_{k:03}.png")
print(sorted(path.name for path in synthetic.iterdir())[:3])

# %%
# Tables
# ------
# Rows of features are a *table*, unless ``image_shape`` says that they are flat images. What
# was measured in images is such a table. It has dense networks,
# :class:`~tsynd_sk.classifiers.DenseNet` and :class:`~tsynd_sk.autoencoders.DenseAutoencoder`, in
# place of the convolutional ones, :class:`~tsynd_sk.classifiers.ConvNet` and
# :class:`~tsynd_sk.autoencoders.PatchAutoencoder`. They standardise columns inside.
# (``TargetedSynthesizer()`` would choose them itself.) The features here were measured in
# pictures of cell nuclei.
from sklearn.datasets import load_breast_cancer

from tsynd_sk.autoencoders import DenseAutoencoder
from tsynd_sk.classifiers import DenseNet

bunch = load_breast_cancer()
chosen = subsample(bunch.target, 120, random_state=0)
table, diagnosis = bunch.data[chosen], bunch.target_names[bunch.target[chosen]]
tabular = TargetedSynthesizer(
    NetClassifier(DenseNet, max_epochs=20),
    AutoencoderNet(DenseAutoencoder, max_epochs=8),
    random_state=0,
).fit(table, diagnosis)
cells, names, info = tabular.sample(60, return_info=True)

columns = [list(bunch.feature_names).index(name) for name in ("mean radius", "mean texture")]
limits = ValueRange.of(table, ImageFormat.infer(table))
inside = ((cells >= limits.extremes[0]) & (cells <= limits.extremes[1])).all()
print(f"{cells.shape}, {cells.dtype}, each column within its range: {inside}")

figure, ax = plt.subplots(figsize=(5.6, 4.4), layout="constrained")
for name, colour_of in [("benign", "#0072B2"), ("malignant", "#D55E00")]:
    real, made = table[diagnosis == name], cells[names == name]
    sources = table[info.source_index[names == name]]
    for a, b in zip(sources[:, columns], made[:, columns], strict=True):
        ax.plot(*np.transpose([a, b]), color="0.75", lw=0.8, zorder=1)
    ax.plot(*real[:, columns].T, "o", ms=4, mfc="none", color=colour_of, label=name)
    ax.plot(*made[:, columns].T, "o", ms=4, color=colour_of, label=f"{name}, synthetic")
ax.set(
    xlabel="mean radius (unit of the data set)",
    ylabel="mean texture (standard deviation of grey values)",
)
ax.legend(fontsize="small")
plt.show()
temporary.cleanup()

# %%
# Each line joins a row to what was synthesised from it, in two of its thirty columns. See whether
# synthetic rows lie between the classes, or where there are no real ones at all: then ask what an
# autoencoder of so few rows can know.
#
# Try next
# --------
# - :doc:`/guide/image_files`: files of every kind, patients, copies.
# - :doc:`/guide/images`: ambiguous layouts, flat images, images that do not fit in memory.
# - ``python -m tsynd_sk --dataset path/to/folder --size 64`` compares ways of training on a folder,
#   or on an ``.npz`` file; :ref:`sphx_glr_auto_examples_plot_compare_arms.py` does so in Python.
# - Sources, samples and their differences in one picture:
#   :class:`~tsynd_sk.inspection.SynthesisDisplay`.
# - More about a rare class: :ref:`sphx_glr_auto_examples_plot_imbalance.py`.
# - Before you publish what was synthesised: :ref:`sphx_glr_auto_examples_plot_samples.py`.
