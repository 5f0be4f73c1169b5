"""
The engine in plain torch
=========================

You will learn which parts the method is made of, and to use them with tensors and modules of your
own, in a training loop of your own: members of a network, measures of their disagreement, and the
ascent. No scikit-learn, no skorch.
"""

# %%
# A network and an autoencoder
# ----------------------------
# Everything here starts from two trained modules. The images are scikit-learn's digits, as a tensor
# of shape (n, C, H, W).
import torch
from torch import nn
from torch.nn import functional as F

from tsynd_sk.datasets import load_digits_images

images, labels, _ = load_digits_images()
X, y = torch.from_numpy(images[:, None]), torch.from_numpy(labels)
X_train, y_train, X_test, y_test = X[:200], y[:200], X[200:700], y[200:700]


def train(module, loss, *data, epochs, lr=3e-3):
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr)
    module.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(data[0])).split(25):
            optimizer.zero_grad()
            loss(module, *(part[rows] for part in data)).backward()
            optimizer.step()
    return module.eval()


# %%
# The network has dropout, and a layer of our own that is random in another way: it scales
# features by Gaussian noise. The engine knows torch's dropout in all its forms. Of other layers it
# has to be told how their noise is drawn and applied, so that a draw can be fixed.
# :func:`~tsynd_sk.members.register_stochastic` takes both.
from tsynd_sk.members import register_stochastic


class GaussianScale(nn.Module):
    def forward(self, x):
        return x * (1 + 0.3 * torch.randn_like(x)) if self.training else x


register_stochastic(
    GaussianScale,
    draw=lambda layer, generator, x: torch.randn(1, *x.shape[1:], generator=generator),
    apply=lambda layer, noise, x: x * (1 + 0.3 * noise),
)


def make_network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 64),
        nn.ReLU(),
        GaussianScale(),
        nn.Dropout(0.3),
        nn.Linear(64, 10),
    )


def classifier_loss(network, x, target):
    return F.cross_entropy(network(x), target)


networks = [train(make_network(), classifier_loss, X_train, y_train, epochs=25) for _ in range(3)]
network = networks[0]

# %%
# The autoencoder is a small variational one. Encoders return all sorts of things, this one a mean
# and the logarithm of a variance. :func:`~tsynd_sk.autoencoders.encode` finds the code in it.
from tsynd_sk.autoencoders import encode


class Variational(nn.Module):
    def __init__(self, n_latents=8):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * n_latents)
        )
        self.decoder = nn.Sequential(nn.Linear(n_latents, 128), nn.ReLU(), nn.Linear(128, 64))

    def encode(self, x):
        return self.encoder(x).chunk(2, dim=-1)

    def decode(self, z):
        return self.decoder(z).sigmoid().unflatten(-1, (1, 8, 8))


def variational_loss(module, x):
    mean, log_variance = module.encode(x)
    decoded = module.decode(mean + torch.randn_like(mean) * (log_variance / 2).exp())
    divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum() / 2
    return ((decoded - x).square().sum() + 0.05 * divergence) / len(x)


autoencoder = train(Variational(), variational_loss, X_train, epochs=120)
# The ascent needs gradients with respect to codes, not to weights.
autoencoder.requires_grad_(False)
with torch.no_grad():
    z = encode(autoencoder, X_train)
    error = (autoencoder.decode(z) - X_train).square().mean().sqrt()
scale = z.std(0)
print(f"codes of shape {tuple(z.shape)}, root-mean-square error of reconstructions {error:.3f}")

# %%
# Members
# -------
# A member is a network without anything random in it. There are three ways to get several:
#
# - :class:`~tsynd_sk.members.DropoutMembers`: one network under draws of all its noise;
# - :class:`~tsynd_sk.members.LaplaceMembers`: one network under draws of its last layer, from the
#   Gaussian that :func:`~tsynd_sk.members.last_layer_posterior` fits to the training images. Its
#   noise rests, and need not exist. It returns a
#   :class:`~tsynd_sk.members.LastLayerPosterior`;
# - :class:`~tsynd_sk.members.EnsembleMembers`: several networks, each as it predicts.
#
# :class:`~tsynd_sk.members.JoinedMembers` joins any of them. All need to be told how
# log-probabilities come from what a network returns. All work on copies: the networks stay as they
# are.
from tsynd_sk.members import (
    DropoutMembers,
    EnsembleMembers,
    JoinedMembers,
    LaplaceMembers,
    last_layer_posterior,
)


def to_log_proba(logits):
    return logits.log_softmax(-1)


posterior = last_layer_posterior(network, to_log_proba, X_train.split(50))
print(f"posterior of layer {posterior.layer}, prior precision {posterior.prior_precision:.3f}")
schemes = {
    "dropout": DropoutMembers(network, to_log_proba, n_members=16, seed=0),
    "laplace": LaplaceMembers(network, to_log_proba, posterior, n_members=16, seed=0),
    "ensemble": EnsembleMembers(networks, [to_log_proba] * 3),
    "joined": JoinedMembers(
        [
            DropoutMembers(one, to_log_proba, n_members=16, seed=seed)
            for seed, one in enumerate(networks)
        ]
    ),
}

# %%
# Members answer with log-probabilities of shape (n_members, n, n_classes), from which the measures
# are computed. The entropy of the mean prediction is all uncertainty there is, and mutual
# information the part of it that is due to members that disagree. The rest would be there
# if they all agreed: images that are ambiguous. Besides the test images we ask about test images
# with left and right halves of different digits.
from tsynd_sk.uncertainty import mean_log_proba, mutual_information, predictive_entropy

halves = torch.cat([X_test[:, :, :, :4], X_test.roll(1, 0)[:, :, :, 4:]], dim=3)
different = y_test != y_test.roll(1)
print(f"{'':<10}{'members':>8}{'accuracy':>10}   {'test images':^22}   {'halves of two':^22}")
print(f"{'[nats]':<28}" + 2 * f"   {'entropy':>10}{'MI':>12}")
with torch.no_grad():
    for name, members in schemes.items():
        log_probs = members(X_test)
        accuracy = (mean_log_proba(log_probs).argmax(-1) == y_test).float().mean()
        line = f"{name:<10}{len(log_probs):>8}{accuracy:>10.3f}"
        for answer in (log_probs, members(halves[different])):
            entropy, mi = predictive_entropy(answer).mean(), mutual_information(answer).mean()
            line += f"   {entropy:>10.3f}{mi:>12.3f}"
        print(line)

# %%
# The schemes mean different things by a plausible network, and so differ in how much of the
# entropy they take for disagreement. Levels of different schemes should not be compared; what
# counts is whether unlike images stand out within a line.
#
# The ascent
# ----------
# :func:`~tsynd_sk.ascent.ascend` moves codes to where an objective of the decoded images is
# high. It measures displacements in latent standard deviations (``scale``), and keeps their root
# mean square within ``radius``. The objective is a function of the type
# :obj:`~tsynd_sk.ascent.Objective`; :obj:`~tsynd_sk.ascent.OBJECTIVES` has two. With
# ``objective=None`` codes go along a ``direction`` and maximise nothing: the control.
#
# As the estimators do, we start every row at a random place on the surface of its ball.
# :func:`~tsynd_sk.ascent.normalise` scales each row to a root mean square of one, and
# :func:`~tsynd_sk.ascent.displacement_norm` measures it.
from tsynd_sk.ascent import OBJECTIVES, ascend, displacement_norm, normalise

radius = 0.25
z_0, y_0 = z[:100], y_train[:100]
start = radius * normalise(torch.randn_like(z_0))
members = schemes["dropout"]

uncertainties = {}
results = {}
for name in ["mutual_info", "entropy", "random"]:
    uncertainties[name] = []

    def note(step, points, steps=uncertainties[name]):
        steps.append(points.uncertainty)

    walk = name == "random"
    results[name] = ascend(
        members,
        autoencoder.decode,
        z_0,
        y_0,
        objective=None if walk else OBJECTIVES[name],
        direction=start if walk else None,
        start=None if walk else start,
        scale=scale,
        radius=radius,
        callback=note,
    )

# %%
# An :class:`~tsynd_sk.ascent.AscentResult` holds images, codes and what is known of them, row by
# row. Codes are within the ball, and what was found with one draw of noise should be tried with
# others, and with members of another kind:
others = members.redrawn(1)
print(f"{'mean MI [nats]':<16}{'its members':>13}{'other draws':>13}{'ensemble':>10}{'moved':>8}")
with torch.no_grad():
    for name, result in results.items():
        moved = displacement_norm((result.latents - z_0) / scale)
        assert moved.max() <= radius + 1e-5
        again = [mutual_information(m(result.images)).mean() for m in (others, schemes["ensemble"])]
        print(
            f"{name:<16}{result.uncertainty.mean():>13.3f}{again[0]:>13.3f}{again[1]:>10.3f}"
            f"{moved.mean():>8.3f}"
        )

# %%
# The first column is what the ascent was after. Where the second is as high, it has found
# disagreement of the network and not of these sixteen draws. The ensemble has a scale of its own:
# compare within its column, with the line ``random``, which says what moving alone does.
#
# The callback was called at every step. Lines may fall, too, where a step was too long: what counts
# is the highest point of each. Nobody asks here what the members take an image for. With
# ``constrain=True`` the highest point counts at which their mean prediction is still the label, and
# beyond it steps lead back. Random walks start at the code itself, and reach the surface of the
# ball at the last step.
import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharey=True, layout="constrained")
for ax, (name, steps) in zip(axes, uncertainties.items(), strict=True):
    rows = torch.stack(steps, 1)
    ax.plot(rows[:40].T, color="0.7", lw=0.7)
    best = results[name].uncertainty.argmax()
    ax.plot(rows[best], "o-", ms=4, color="#0072B2", label="the one that ends highest")
    ax.set(title=name, xlabel="step")
axes[0].set_ylabel("mutual information (nats)")
axes[2].legend(loc="upper left", fontsize="small")
plt.show()

# %%
# What is to be seen of it in the images:
with torch.no_grad():
    rows = {
        "source": X_train[:8],
        "decoded": autoencoder.decode(z_0[:8]),
        **{name: result.images[:8] for name, result in results.items()},
    }
figure, axes = plt.subplots(len(rows), 8, figsize=(8, 5.2), layout="constrained")
for line, (name, pictures) in zip(axes, rows.items(), strict=True):
    line[0].set_ylabel(name)
    for ax, picture in zip(line, pictures, strict=True):
        ax.imshow(picture[0], cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
plt.show()

# %%
# Training on them
# ----------------
# The images belong in the training of the network that they were made against, and there they
# age: the network learns them. We train a copy on real and synthetic images together, and, for
# comparison, one for as many steps on real images alone.
import copy

result = results["mutual_info"]
further = {
    "real images twice": (X_train[:100], y_0),
    "real and synthetic": (result.images, y_0),
}
print(f"{'then trained on':<22}{'MI of the images':>18}{'of new ones':>14}{'accuracy':>11}")
for name, (x, target) in further.items():
    trained = copy.deepcopy(network)
    data = torch.cat([X_train, x]), torch.cat([y_train, target])
    train(trained, classifier_loss, *data, epochs=10, lr=1e-3)
    now = DropoutMembers(trained, to_log_proba, n_members=16, seed=2)
    new = ascend(now, autoencoder.decode, z_0, y_0, start=start, scale=scale, radius=radius)
    with torch.no_grad():
        old = mutual_information(now(result.images)).mean()
        accuracy = (trained(X_test).argmax(-1) == y_test).float().mean()
    print(f"{name:<22}{old:>18.3f}{new.uncertainty.mean():>14.3f}{accuracy:>11.3f}")

# %%
# Compare the first column with that of the ascent above, then the two lines with each other:
# what real images alone do to it is no merit of the synthetic ones. "New ones" were made against
# the network as it then was, with the same starts. If they are more uncertain than the old images,
# it is time to exchange these, which is why the estimators synthesise anew every few epochs. The
# accuracies are of one training each, and settle nothing.
#
# Try next
# --------
# - An objective of your own: :ref:`sphx_glr_auto_examples_plot_own_objective.py`; it is a function
#   of ``members(images)`` and labels here, too.
# - ``restrict="last"`` of :class:`~tsynd_sk.members.DropoutMembers`: :doc:`/guide/speed`.
# - All of this with early stopping, schedules and checkpoints around it, and without a loop of your
#   own: :ref:`sphx_glr_auto_examples_plot_callback.py`.
