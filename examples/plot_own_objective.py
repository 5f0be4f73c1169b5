"""
How do I write an objective of my own?
======================================

You will learn how to write a function that synthetic images maximise, what it gets and must return,
and how to check that it does what you want, beside mutual information, the default.
"""

# %%
# A synthesizer to start from
# ---------------------------
import numpy as np
import torch

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

X, y, _ = load_digits_images()
X, y = X[:150], y[:150]
synthesizer = TargetedSynthesizer(
    NetClassifier(max_epochs=20, lr=5e-3, module__width=16), random_state=0
).fit(X, y)


# %%
# Two objectives
# --------------
# An objective gets the members' log-probabilities, a tensor of shape (n_members, n, n_classes), and
# the labels as column numbers, of shape (n,). It returns one value for each image, which the ascent
# maximises. It must be differentiable by torch.
#
# The first one seeks images between the two likeliest classes. It uses the mean prediction alone,
# whether members agree or not.
def small_margin(log_probs, y):
    first, second = log_probs.exp().mean(0).topk(2, dim=-1).values.unbind(-1)
    return second - first


# %%
# The second one is the variation ratio: the share of members that do not vote for the winning
# class. Counted, it is a step function without a slope, and the synthesizer says so:
def variation_ratio(log_probs, y):
    votes = torch.nn.functional.one_hot(log_probs.argmax(-1), log_probs.shape[-1])
    return 1 - votes.float().mean(0).amax(-1)


try:
    synthesizer.set_params(objective=variation_ratio).sample(1)
except ValueError as error:
    print(error)


# %%
# The way out is a smooth vote. Dividing log-probabilities by a small temperature moves the largest
# probability of each member towards one, and keeps a slope.
def soft_variation_ratio(log_probs, y):
    votes = (log_probs / 0.3).softmax(-1)
    return 1 - votes.mean(0).amax(-1)


# %%
# Synthesise with each
# --------------------
# ``set_params`` after ``fit`` trains nothing again, and equal seeds give equal starts, so only the
# objective differs. ``synthesize`` makes one image from each.
objectives = {
    "random": "random",
    "mutual_info": "mutual_info",
    "small_margin": small_margin,
    "soft_variation_ratio": soft_variation_ratio,
}
made = {}
for name, objective in objectives.items():
    synthesizer.set_params(objective=objective)
    made[name], _ = synthesizer.synthesize(X, y, random_state=0)

# %%
# We measure all of them with members that took no part in any ascent, with other dropout masks. You
# can try an objective by hand in the same way.
from tsynd_sk.members import DropoutMembers
from tsynd_sk.uncertainty import mutual_information

members = DropoutMembers(
    synthesizer.classifier_.module_,
    lambda logits: logits.log_softmax(-1),
    n_members=64,
    seed=1,
)
measures = {}
print(f"{'':<22}{'MI [nats]':>10}{'margin':>8}{'votes against':>15}{'agreement':>12}")
for name, images in {"real images": X, **made}.items():
    with torch.no_grad():
        log_probs = members(torch.from_numpy(images[:, None]))
    labels = torch.from_numpy(y)
    values = {
        "mi": mutual_information(log_probs).numpy(),
        "margin": -small_margin(log_probs, labels).numpy(),
        "against": variation_ratio(log_probs, labels).numpy(),
        "agreement": (log_probs.exp().mean(0).argmax(-1) == labels).numpy(),
    }
    measures[name] = values
    mean = {key: value.mean() for key, value in values.items()}
    print(
        f"{name:<22}{mean['mi']:>10.3f}{mean['margin']:>8.3f}"
        f"{mean['against']:>15.1%}{mean['agreement']:>12.1%}"
    )

# %%
# "Margin" is the lead of the likeliest class over the second; small is sought. "Votes against" is
# the counted variation ratio. "Agreement" is the share that these members predict as labelled. For
# each objective, find the column that it should move, then those that it moves as well.
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 3, figsize=(9, 3.4), sharex=True, sharey=True, layout="constrained")
for ax, name in zip(axes, ["mutual_info", "small_margin", "soft_variation_ratio"], strict=True):
    for group, color, marker in [("real images", "0.6", "."), (name, "#0072B2", "o")]:
        values = measures[group]
        ax.plot(values["margin"], values["mi"], marker, ms=4, color=color, alpha=0.7, label=group)
    ax.set(title=name, xlabel="margin of the mean prediction", xlim=(-0.02, 1.02))
    ax.legend(["real images", "synthetic"], loc="upper right", fontsize="small")
axes[0].set_ylabel("mutual information (nats)")
plt.show()

# %%
# Each point is an image. To the left, the mean prediction is undecided; higher up, members disagree
# more. Images at the lower left are ambiguous to all members: the margin seeks them, mutual
# information does not. Few such images mean that your objective differs from the default on paper
# only:
for name in ["small_margin", "soft_variation_ratio"]:
    same = np.corrcoef(measures[name]["mi"], measures["mutual_info"]["mi"])[0, 1]
    gain = measures[name]["mi"].mean() / measures["mutual_info"]["mi"].mean()
    print(
        f"{name}: reaches {gain:.0%} of the mutual information that maximising it reaches; "
        f"image by image, the two correlate by {same:.2f}"
    )

# %%
# The images themselves, from the same sources:
fig, axes = plt.subplots(4, 8, figsize=(8, 4.4), layout="constrained")
names = ["real images", "mutual_info", "small_margin", "soft_variation_ratio"]
for line, name in zip(axes, names, strict=True):
    line[0].set_ylabel(name.replace("_", "\n", 1), fontsize="small")
    for ax, image in zip(line, {"real images": X, **made}[name], strict=False):
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
plt.show()

# %%
# None of this tells which images are better to train on. For that, compare trained classifiers, as
# in :ref:`sphx_glr_auto_examples_plot_compare_arms.py`, with ``Arm(objective=...)``.
#
# Try next
# --------
# - Use the labels: ``-log_probs.exp().mean(0).log()[range(len(y)), y]`` is the loss itself.
#   :doc:`/guide/objectives` has more, also on pickling.
# - Give ``synthesizer__objective`` several values in a search, as in
#   :ref:`sphx_glr_auto_examples_plot_grid_search.py`.
# - Members of another kind: :doc:`/guide/members`, and
#   :ref:`sphx_glr_auto_examples_plot_deep_ensemble.py`.
