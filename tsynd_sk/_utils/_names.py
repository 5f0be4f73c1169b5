"""Names that the command line offers: plain constants, so that its help imports nothing heavy.

They lie below all packages, whose modules build on them: a name is written once.
"""

#: Attacks that `tsynd_sk.evaluation` knows.
ATTACKS = ("fgsm", "pgd", "autoattack", "square")

#: What an arm of a comparison can do to training images besides, or in place of, synthesis.
AUGMENTATIONS = ("standard", "mixup", "trivial_augment", "smote", "adversarial")

#: Values of `TargetedSynthesizer.objective`.
OBJECTIVE_NAMES = ("reconstruction", "random", "entropy", "mutual_info")

#: Arms of a comparison: nothing, an augmentation, an objective, or both.
ARM_NAMES = (
    "plain",
    *AUGMENTATIONS,
    *OBJECTIVE_NAMES,
    *(
        f"{first}+{second}"
        for first in ("standard", "trivial_augment")
        for second in OBJECTIVE_NAMES
    ),
)

#: Arms that are compared unless others are asked for.
DEFAULT_ARMS = ("plain", "standard", *OBJECTIVE_NAMES, "standard+mutual_info")
