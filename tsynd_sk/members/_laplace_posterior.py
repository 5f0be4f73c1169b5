"""Last-layer Laplace approximation: epistemic uncertainty for classifiers without dropout.

The package laplace-torch (0.3) is not used: its sampling writes weights into the given model, so
members neither last nor can be shared by threads; it treats weight and bias as independent, and the
output of a softmax as logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from tsynd_sk._utils._inference import check_not_scripted, private_copy
from tsynd_sk._utils._tensors import PickledAsArrays
from tsynd_sk.members._last_layer import check_plain, last_linear, layer_label, only_call, recorded

__all__ = ["LastLayerPosterior", "last_layer_posterior"]

WEAKEST_PRIOR, STRONGEST_PRIOR = 1e-4, 1e4


@dataclass(frozen=True, eq=False)
class LastLayerPosterior(PickledAsArrays):
    """Gaussian over the weight and bias of the last linear layer of a network.

    Its precision is ``A ⊗ B + prior_precision * I``; see `last_layer_posterior`. All tensors are on
    the CPU, so that every device gets the same samples.

    Attributes
    ----------
    layer : str
        Name of the layer in the network, as in ``named_modules``; "" if the network is the layer.
    weight : Tensor of shape (n_outputs, n_features)
        Mean of the weight: as trained, in the layer's dtype.
    bias : Tensor of shape (n_outputs,) or None
        Mean of the bias; None if the layer has none.
    feature_eigenvalues : Tensor of shape (n_inputs,), float64
        Of ``A``, not negative; ``n_inputs`` is ``n_features``, plus one if there is a bias.
    feature_eigenvectors : Tensor of shape (n_inputs, n_inputs), float64
        Of ``A``, in columns.
    output_eigenvalues : Tensor of shape (n_outputs,), float64
        Of ``B``, not negative.
    output_eigenvectors : Tensor of shape (n_outputs, n_outputs), float64
        Of ``B``, in columns.
    prior_precision : float
        One over the variance of the prior of every weight and bias.

    See Also
    --------
    last_layer_posterior : Fit it.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.members import last_layer_posterior
    >>> net = torch.nn.Linear(4, 3)
    >>> batches = [torch.ones(10, 4)]
    >>> posterior = last_layer_posterior(net, lambda logits: logits.log_softmax(-1), batches)
    >>> posterior.is_of(net), posterior.feature_eigenvalues.shape
    (True, torch.Size([5]))
    """

    layer: str
    weight: Tensor
    bias: Tensor | None
    feature_eigenvalues: Tensor
    feature_eigenvectors: Tensor
    output_eigenvalues: Tensor
    output_eigenvectors: Tensor
    prior_precision: float

    def is_of(self, module: nn.Module) -> bool:
        """Return whether a network has this layer, with these weights.

        Parameters
        ----------
        module : Module
            Network.

        Returns
        -------
        bool
            False if it has been trained since.
        """
        layer = dict(module.named_modules()).get(self.layer)
        return (
            isinstance(layer, nn.Linear)
            and _agree(layer.weight, self.weight)
            and _agree(layer.bias, self.bias)
        )

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw a weight and a bias.

        Parameters
        ----------
        generator : torch.Generator
            On the CPU; equal states give equal samples.

        Returns
        -------
        weight : Tensor of shape (n_outputs, n_features)
            On the CPU, in the layer's dtype.
        bias : Tensor of shape (n_outputs,) or None
            The same; None if the layer has none.

        Raises
        ------
        TypeError
            If `generator` is not a ``torch.Generator``.
        """
        if not isinstance(generator, torch.Generator):
            # With None, torch would draw from its global generator.
            raise TypeError(f"generator must be a torch.Generator; got {generator!r}")
        precision = torch.outer(self.output_eigenvalues, self.feature_eigenvalues)
        precision = precision + self.prior_precision
        noise = torch.randn(precision.shape, generator=generator, dtype=precision.dtype)
        # Independent along the eigenvectors of a Kronecker product, which are products as well.
        step = self.output_eigenvectors @ (noise / precision.sqrt()) @ self.feature_eigenvectors.T
        n_features = self.weight.shape[1]
        weight = (self.weight + step[:, :n_features]).to(self.weight.dtype)
        if self.bias is None:
            return weight, None
        return weight, (self.bias + step[:, -1]).to(self.bias.dtype)


def _agree(part: Tensor | None, mean: Tensor | None) -> bool:
    if part is None or mean is None:
        return part is mean
    # In the dtype of the layer, because the network may have been cast since.
    return torch.equal(part.detach().cpu(), mean.to(part.dtype))


def _output_fisher(log_probs: Tensor, output: Tensor) -> Tensor:
    """Sum over the rows ``sum_c p_c g_c g_c^T``, where ``g_c = d log p_c / d output``."""
    p = log_probs.detach().cpu().double().exp()
    fisher = output.new_zeros((output.shape[1],) * 2, dtype=torch.float64, device="cpu")
    for c in range(log_probs.shape[1]):
        # Rows do not depend on each other, so the gradient of the sum holds that of each row.
        (slope,) = torch.autograd.grad(log_probs[:, c].sum(), output, retain_graph=True)
        root = p[:, c, None].sqrt() * slope.cpu().double()
        fisher += root.T @ root
    return fisher


def _check_finite(values: Tensor, what: str) -> None:
    if not values.isfinite().all():
        raise ValueError(
            f"{what} is not finite (nan or infinity). Check the weights of the network, the range "
            "of its inputs, and that no logarithm of zero is computed."
        )


def _kronecker_factors(
    network: nn.Module,
    to_log_proba: Callable[[Tensor], Tensor],
    batches: Iterable[Tensor],
    name: str,
    layer: nn.Linear,
) -> tuple[Tensor, Tensor]:
    """Sum the features' outer products and average the curvatures at the output over all rows."""
    n_inputs = layer.in_features + (layer.bias is not None)
    a = torch.zeros(n_inputs, n_inputs, dtype=torch.float64)
    b = torch.zeros(layer.out_features, layer.out_features, dtype=torch.float64)
    n_rows = 0
    for x in batches:
        with recorded({name: layer}) as calls:
            log_probs = to_log_proba(network(x))
        call = only_call(calls, name, log_probs)
        inputs = call.features.cpu().double()
        if layer.bias is not None:
            # The bias is the weight of a feature that is always 1.
            inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)
        _check_finite(inputs, f"what the last {layer_label(name)} receives")
        fisher = _output_fisher(log_probs, call.output)
        _check_finite(fisher, f"the curvature of the prediction at the last {layer_label(name)}")
        a += inputs.T @ inputs
        b += fisher
        n_rows += len(inputs)
    return a, b / n_rows


def _best_prior_precision(eigenvalues: Tensor, squared_norm: float) -> float:
    """Maximise the marginal likelihood over the precision of the prior, within bounds.

    Its slope in ``log(precision)`` is half of ``sum(l / (l + precision)) - precision * |theta|^2``,
    which never rises, so bisection finds the only maximum, or an end of the range.
    """

    def rises(log_precision: float) -> bool:
        precision = math.exp(log_precision)
        determined = float((eigenvalues / (eigenvalues + precision)).sum())
        return determined > precision * squared_norm

    low, high = math.log(WEAKEST_PRIOR), math.log(STRONGEST_PRIOR)
    if not rises(low):
        return WEAKEST_PRIOR
    if rises(high):
        return STRONGEST_PRIOR
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) else (low, middle)
    return math.exp(low)


def last_layer_posterior(
    module: nn.Module,
    to_log_proba: Callable[[Tensor], Tensor],
    batches: Iterable[Tensor],
    *,
    prior_precision: float | None = None,
) -> LastLayerPosterior:
    """Fit a Laplace approximation to the last linear layer of a trained classifier.

    The result is a Gaussian over the weights of that layer [1]_ [3]_. Its curvature is the
    Kronecker-factored [2]_ generalised Gauss-Newton matrix, an expectation under the predictions,
    which needs no labels. The network stays as it is: a private copy predicts in evaluation mode.

    Parameters
    ----------
    module : Module
        Trained network. Its last layer is the last ``torch.nn.Linear`` that the prediction depends
        on. What follows it must be differentiable and treat rows separately.
    to_log_proba : callable
        Turns the output of the network into log-probabilities of shape (n_samples, n_classes), with
        finite gradients even if a probability is zero.
    batches : iterable of Tensor, each of shape (n_samples, ...)
        The training images of the network, without labels, in its format and on its device.
    prior_precision : float or None, default=None
        One over the variance of the prior of every weight and bias. None: the value between 1e-4
        and 1e4 that maximises the marginal likelihood [1]_ [4]_.

    Returns
    -------
    LastLayerPosterior
        The Gaussian, to draw weights from.

    Raises
    ------
    TypeError
        If `batches` is a single tensor.
    ValueError
        If `prior_precision` is not positive and finite; `batches` has no rows; the network calls no
        linear layer, or the last one twice or with anything but one vector of features for each
        row; its weight is computed from other parameters; or its features or curvature are not
        finite.

    See Also
    --------
    LastLayerPosterior : What it returns.
    LaplaceMembers : Members drawn from it.

    Notes
    -----
    With ``phi`` the features of a row, followed by a 1 if there is a bias, the curvature is
    ``A ⊗ B``: ``A = sum phi phi^T`` over the rows, ``B = mean (sum_c p_c g_c g_c^T)`` with
    ``g_c`` the gradient of ``log p_c`` with respect to the output of the layer. The time grows with
    the cube of the number of features.

    The closer the loss is to zero, the weaker the prior that the marginal likelihood chooses, until
    samples no longer fit the training rows. So compare some members with the network on them. If
    they differ, raise ``prior_precision`` by ``dataclasses.replace``.

    References
    ----------
    .. [1] D. J. C. MacKay, "A Practical Bayesian Framework for Backpropagation Networks", Neural
       Computation 4, 1992.
    .. [2] H. Ritter, A. Botev, D. Barber, "A Scalable Laplace Approximation for Neural Networks",
       ICLR 2018.
    .. [3] E. Daxberger et al., "Laplace Redux: Effortless Bayesian Deep Learning", NeurIPS 2021.
    .. [4] A. Immer et al., "Scalable Marginal Likelihood Estimation for Model Selection in Deep
       Learning", ICML 2021.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.members import last_layer_posterior
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    >>> batches = torch.ones(10, 1, 2, 2).split(5)
    >>> posterior = last_layer_posterior(net, lambda logits: logits.log_softmax(-1), batches)
    >>> weight, bias = posterior.sample(torch.Generator().manual_seed(0))
    >>> posterior.layer, weight.shape, bias.shape
    ('1', torch.Size([3, 4]), torch.Size([3]))
    """
    check_not_scripted(module)
    if prior_precision is not None and not 0 < prior_precision < math.inf:
        raise ValueError(
            f"prior_precision must be a positive finite number or None, got {prior_precision!r}"
        )
    if isinstance(batches, Tensor):
        raise TypeError("batches is a tensor: pass a list of batches, or batches.split(256)")
    filled = (batch.detach() for batch in batches if len(batch))
    first = next(filled, None)
    if first is None:
        raise ValueError("batches must hold at least one row, got none")
    network = private_copy(module)
    with torch.enable_grad():
        name, layer = last_linear(network, to_log_proba, first)
        check_plain(name, layer)
        factors = _kronecker_factors(network, to_log_proba, chain([first], filled), name, layer)
    weight = layer.weight.detach().cpu()
    bias = None if layer.bias is None else layer.bias.detach().cpu()
    # Rounding leaves eigenvalues of zero slightly negative.
    (a, u_a), (b, u_b) = (
        (v.clamp_min(0), u.contiguous()) for v, u in map(torch.linalg.eigh, factors)
    )
    if prior_precision is None:
        means = [weight] if bias is None else [weight, bias]
        squared_norm = sum(float(mean.double().square().sum()) for mean in means)
        prior_precision = _best_prior_precision(torch.outer(b, a), squared_norm)
    return LastLayerPosterior(name, weight, bias, a, u_a, b, u_b, float(prior_precision))
