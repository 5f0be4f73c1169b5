"""
Quick start on digits
=====================

We synthesise images that a classifier is uncertain about, look at them, and train on them. The
images are scikit-learn's embedded digits, of which we pretend that only a hundred are labelled.
"""

# %%
# A hundred labelled images
# -------------------------
from sklearn.model_selection import train_test_split

from tsynd_sk.datasets import load_digits_images

X, y, class_names = load_digits_images()
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=100, test_size=450, stratify=y, random_state=0
)

# %%
# Targeted images
# ---------------
# ``fit`` trains a classifier and an autoencoder, unless they come already trained. ``sample`` moves
# the codes of real images to where the classifier's members disagree, and decodes them.
from tsynd_sk import TargetedSynthesizer

synthesizer = TargetedSynthesizer(random_state=0).fit(X_train, y_train)
X_new, y_new, info = synthesizer.sample(100, return_info=True)

print(f"mutual information, sources:    {info.uncertainty_source.mean():.3f} nats")
print(f"mutual information, synthetic:  {info.uncertainty.mean():.3f} nats")
print(f"taken for their label:          {info.label_agreement.mean():.0%}")

# %%
# What changed, image by image:
from tsynd_sk.inspection import SynthesisDisplay

_ = SynthesisDisplay.from_estimator(synthesizer, X_train, random_state=0).plot()

# %%
# Training on them
# ----------------
# `AugmentedClassifier` alternates training and synthesis. With ``synthetic_ratio=0`` it trains the
# same network on the real images alone. One split says little; ``python -m tsynd_sk`` compares over
# several, with standard errors.
from tsynd_sk import AugmentedClassifier
from tsynd_sk.evaluation import corruption_scores

for name, synthetic_ratio in {"real images alone": 0, "with targeted images": 1}.items():
    classifier = AugmentedClassifier(synthetic_ratio=synthetic_ratio, random_state=0)
    classifier.fit(X_train, y_train)
    corrupted = corruption_scores(classifier, X_test, y_test, random_state=0)
    print(
        f"{name:<22} accuracy {classifier.score(X_test, y_test):.3f}, balanced accuracy on "
        f"corrupted images {corrupted.mean['balanced_accuracy']:.3f}"
    )

# %%
# Try next: another ``objective``, ``radius`` or ``label_policy`` of the synthesizer; your own
# skorch net as the first argument of `AugmentedClassifier`.
