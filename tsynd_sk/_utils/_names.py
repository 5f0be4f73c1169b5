"""Names that the command line offers: constants, so that its help imports nothing heavy."""

#: Attacks of `adversarial_scores`, from the weakest white box one; the last is a black box.
#:
#: Examples
#: --------
#: >>> from tsynd_sk.evaluation import ATTACKS
#: >>> ATTACKS[0], ATTACKS[-1]
#: ('fgsm', 'square')
ATTACKS = ("fgsm", "pgd", "autoattack", "square")

#: What an arm of a comparison can do to training images besides synthesis.
#:
#: Examples
#: --------
#: >>> from tsynd_sk.comparison import ARMS, AUGMENTATIONS
#: >>> [name for name in AUGMENTATIONS if f"{name}+mutual_info" in ARMS]
#: ['standard', 'trivial_augment']
AUGMENTATIONS = ("standard", "mixup", "trivial_augment", "smote", "adversarial")

#: Objectives that displace nothing: controls of lossless and of literal synthesis.
UNMOVED = ("duplicate", "reconstruction")

#: Objectives of the arms that come with a comparison.
_OF_ARMS = ("duplicate", "random", "entropy", "mutual_info")

#: Values of `TargetedSynthesizer.objective`.
OBJECTIVE_NAMES = (*_OF_ARMS, "reconstruction")

#: Arms of a comparison: nothing, an augmentation, an objective, or both.
ARM_NAMES = (
    "plain",
    *AUGMENTATIONS,
    *_OF_ARMS,
    *(f"{first}+{second}" for first in ("standard", "trivial_augment") for second in _OF_ARMS),
)

#: Arms that are compared unless others are asked for.
#:
#: Examples
#: --------
#: >>> from tsynd_sk.comparison import ARMS, DEFAULT_ARMS
#: >>> [name for name in DEFAULT_ARMS if ARMS[name].synthesises]
#: ['standard+random', 'standard+mutual_info']
DEFAULT_ARMS = (
    "plain",
    "standard",
    "trivial_augment",
    "standard+random",
    "standard+mutual_info",
)

#: Note of what ends a comparison whose folder goes on from there.
KEPT = "Finished runs are kept: the same command continues from them."
