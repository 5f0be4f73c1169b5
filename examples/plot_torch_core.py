"""
How do I use the engine in plain torch?
=======================================

You will learn to use the parts of the method in a training loop of your own, with tensors and
modules alone: members of a network, measures of their disagreement, and the ascent. No skorch.
"""

# %%
# A network and an autoencoder
# ----------------------------
# We need two trained modules. The images are scikit-learn's digits, as a tensor of shape
# (n, C, H, W).
import torch
from torch import nn
from torch.nn import functional as F

from tsynd_sk.datasets import load_digits_images

torch.manual_seed(0)
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
# The network has dropout, and a random layer of our own, which scales features by Gaussian noise.
# The engine knows all dropout layers of torch. For other random layers,
# :func:`~tsynd_sk.members.register_stochastic` takes how noise is drawn and how it is applied, so
# that a draw can be kept.
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


networks = [train(make_network(), classifier_loss, X_train, y_train, epochs=20) for _ in range(3)]
network = networks[0]

# %%
# The autoencoder is a small variational one. Its encoder returns a mean and the logarithm of a
# variance. :func:`~tsynd_sk.autoencoders.encode` finds the code in what an encoder returns.
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
# Members are deterministic versions of a network. There are three kinds:
#
# - :class:`~tsynd_sk.members.DropoutMembers`: one network with several draws of its noise;
# - :class:`~tsynd_sk.members.LaplaceMembers`: one network without noise, with several draws of its
#   last layer. The draws come from the Gaussian (:class:`~tsynd_sk.members.LastLayerPosterior`)
#   that :func:`~tsynd_sk.members.last_layer_posterior` fits to the training images;
# - :class:`~tsynd_sk.members.EnsembleMembers`: several networks.
#
# :class:`~tsynd_sk.members.JoinedMembers` joins any of them. Each takes a function that turns what
# the network returns into log-probabilities. Members are copies; your networks do not change.
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
# Members return log-probabilities of shape (n_members, n, n_classes), from which measures are
# computed. The entropy of the mean prediction is the total uncertainty. Mutual information is the
# part of it that comes from disagreement between members; the rest comes from ambiguous images.
# Besides test images, we ask about images whose left and right halves show different digits.
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
# Do not compare levels between lines: the kinds of members differ in how much they disagree. What
# counts is whether the halves stand out within a line.
#
# The ascent
# ----------
# :func:`~tsynd_sk.ascent.ascend` moves codes to where an objective of the decoded images is high.
# It measures displacements in latent standard deviations (``scale``) and keeps their root mean
# square within ``radius``. The objective is a function of the type
# :obj:`~tsynd_sk.ascent.Objective`; :obj:`~tsynd_sk.ascent.OBJECTIVES` has two. With
# ``objective=None`` codes stay where they start and nothing is maximised: the control.
#
# Like the estimators, we start each code at a random point on the surface of its ball.
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

    results[name] = ascend(
        members,
        autoencoder.decode,
        z_0,
        y_0,
        objective=OBJECTIVES.get(name),
        start=start,
        scale=scale,
        radius=radius,
        callback=note,
    )

# %%
# An :class:`~tsynd_sk.ascent.AscentResult` holds images, codes and their measures, row by row. We
# check that codes are within the ball, and measure the images with other draws of noise and with
# members of another kind:
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
# The ascent maximised the first column. If the second is as high, the images make the network
# uncertain, not only these sixteen draws. The ensemble has a scale of its own: compare within its
# column with the line ``random``, which shows what moving alone does.
#
# The callback recorded each step. Lines can fall where a step was too long; the highest point
# counts. The control is its start alone.
import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharey=True, layout="constrained")
for ax, (name, steps) in zip(axes, uncertainties.items(), strict=True):
    rows = torch.stack(steps, 1).numpy()
    ax.plot(rows[:40].T, color="0.7", lw=0.7)
    best = int(results[name].uncertainty.argmax())
    ax.plot(rows[best], "o-", ms=4, color="#0072B2", label="the one that ends highest")
    ax.set(title=name, xlabel="step")
axes[0].set_ylabel("mutual information (nats)")
axes[2].legend(loc="upper left", fontsize="small")
plt.show()

# %%
# The images:
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
        ax.imshow(picture[0].numpy(), cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
plt.show()

# %%
# Train on them
# -------------
# We train a copy of the network on real and synthetic images together and, for comparison, another
# one for as many steps on real images alone.
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
# Compare the two lines of the first column: training on the images makes the network less uncertain
# about them than as many steps on real images alone. "New ones" were synthesised with members of
# the trained network, from the same starts. If they are more uncertain than the old images, it is
# time to replace the old ones; this is why the estimators synthesise anew every few epochs.
# Accuracies of single trainings settle nothing.
#
# Try next
# --------
# - An objective of your own: :ref:`sphx_glr_auto_examples_plot_own_objective.py`.
# - ``restrict="last"`` of :class:`~tsynd_sk.members.DropoutMembers`: :doc:`/guide/speed`.
# - The same as a callback of skorch, with early stopping, schedules and checkpoints:
#   :ref:`sphx_glr_auto_examples_plot_callback.py`.
