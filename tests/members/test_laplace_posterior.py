import pickle
from functools import partial
from threading import Thread

import pytest
import torch
from helpers.noisy_nets import log_softmax
from helpers.small_mlp import mlp, rows, seeded
from torch import nn
from torch.func import functional_call, hessian

from tsynd_sk.members import last_layer_posterior
from tsynd_sk.uncertainty import safe_log


def log_sigmoid(logits):
    f = logits.reshape(-1)
    return torch.stack([nn.functional.logsigmoid(-f), nn.functional.logsigmoid(f)], -1)


def rebuilt(eigenvalues, eigenvectors):
    return eigenvectors @ eigenvalues.diag() @ eigenvectors.T


def feature_factor(posterior):
    return rebuilt(posterior.feature_eigenvalues, posterior.feature_eigenvectors)


def output_factor(posterior):
    return rebuilt(posterior.output_eigenvalues, posterior.output_eigenvectors)


def curvature(posterior):
    """A ⊗ B for the parameters in the order of a matrix (n_outputs, n_inputs), row by row."""
    return torch.kron(output_factor(posterior), feature_factor(posterior))


def stacked(weight, bias):
    """Weight and bias as one row vector, in the order of `curvature`."""
    return (weight if bias is None else torch.cat([weight, bias[:, None]], 1)).reshape(-1)


def brute_force_ggn(layer, to_log_proba, x):
    """Generalised Gauss-Newton matrix of a one-layer classifier, parameter by parameter."""
    parameters = dict(layer.named_parameters())
    sizes = [p.numel() for p in parameters.values()]

    def output(flat, row):
        parts = [s.view_as(p) for s, p in zip(flat.split(sizes), parameters.values(), strict=True)]
        return functional_call(layer, dict(zip(parameters, parts, strict=True)), (row[None],))[0]

    flat = torch.cat([p.detach().reshape(-1) for p in parameters.values()])
    total = torch.zeros(len(flat), len(flat), dtype=flat.dtype)
    for row in x:
        jacobian = torch.func.jacrev(output)(flat, row)
        f = output(flat, row)
        p = to_log_proba(f[None])[0].exp()
        # The Hessian of the loss in the output, in expectation over the labels.
        losses = hessian(lambda f: -to_log_proba(f[None])[0])(f)
        total += jacobian.T @ torch.einsum("c,cij->ij", p, losses) @ jacobian
    # From "all weights, then all biases" to the order of `curvature`.
    k, d = layer.weight.shape
    order = [torch.arange(k * d).view(k, d)]
    if layer.bias is not None:
        order.append(torch.arange(k * d, k * d + k).view(k, 1))
    order = torch.cat(order, 1).reshape(-1)
    return total[order][:, order]


def snapshot(module):
    """Everything about a module that a bystander could change."""
    return {
        "state": {name: value.clone() for name, value in module.state_dict().items()},
        "modes": [part.training for part in module.modules()],
        "requires_grad": [p.requires_grad for p in module.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in module.parameters()],
        "hooks": [
            (len(part._forward_hooks), len(part._forward_pre_hooks), len(part._backward_hooks))
            for part in module.modules()
        ],
        "attributes": [sorted(vars(part)) for part in module.modules()],
    }


def assert_same(before, after):
    torch.testing.assert_close(after.pop("state"), before.pop("state"), rtol=0, atol=0)
    torch.testing.assert_close(after.pop("grads"), before.pop("grads"), rtol=0, atol=0)
    assert after == before


class TestCurvature:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize(("to_log_proba", "k"), [(log_softmax, 3), (log_sigmoid, 1)])
    def test_of_one_row_is_the_full_gauss_newton_matrix(self, bias, to_log_proba, k):
        layer = seeded(lambda: nn.Linear(4, k, bias=bias))
        x = rows(1, 4)
        posterior = last_layer_posterior(layer, to_log_proba, [x])
        expected = brute_force_ggn(layer, to_log_proba, x)
        torch.testing.assert_close(curvature(posterior), expected, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("bias", [True, False])
    def test_factors_are_those_of_the_formula(self, bias):
        net, x = mlp(bias=bias), rows(20, 4)
        posterior = last_layer_posterior(net, log_softmax, [x])
        with torch.no_grad():
            phi, p = net[:2](x), net(x).softmax(-1)
        if bias:
            phi = torch.cat([phi, torch.ones(20, 1)], 1)
        torch.testing.assert_close(feature_factor(posterior), phi.T @ phi)
        softmax_hessians = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        torch.testing.assert_close(output_factor(posterior), softmax_hessians.mean(0))

    def test_of_a_net_that_ends_in_softmax_is_that_of_its_logits(self):
        x = rows(20, 4)
        logits = last_layer_posterior(mlp(), log_softmax, [x])
        probabilities = last_layer_posterior(mlp(end=partial(nn.Softmax, -1)), torch.log, [x])
        assert probabilities.layer == logits.layer == "2"
        torch.testing.assert_close(curvature(probabilities), curvature(logits))

    def test_is_finite_where_probabilities_are_zero(self):
        net, x = mlp(end=partial(nn.Softmax, -1)), rows(20, 4)
        with torch.no_grad():
            net[2].weight.mul_(3e3)
            assert (net(x) == 0).any()
        posterior = last_layer_posterior(net, safe_log, [x])
        expected = last_layer_posterior(net[:3], log_softmax, [x])
        torch.testing.assert_close(curvature(posterior), curvature(expected))

    @pytest.mark.parametrize("sizes", [[20], [7, 7, 6], [1] * 20, [0, 12, 0, 8]])
    def test_does_not_depend_on_how_rows_are_batched(self, sizes):
        net, x = mlp(), rows(20, 4)
        whole = last_layer_posterior(net, log_softmax, [x])
        split = last_layer_posterior(net, log_softmax, iter(x.split(sizes)))
        torch.testing.assert_close(feature_factor(split), feature_factor(whole))
        torch.testing.assert_close(output_factor(split), output_factor(whole))
        assert split.prior_precision == pytest.approx(whole.prior_precision, rel=1e-9)

    def test_is_that_of_evaluation_mode(self):
        net = seeded(
            lambda: nn.Sequential(
                nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)
            )
        )
        net(rows(20, 4, seed=1))
        training = last_layer_posterior(net.train(), log_softmax, [rows(20, 4)])
        evaluation = last_layer_posterior(net.eval(), log_softmax, [rows(20, 4)])
        torch.testing.assert_close(curvature(training), curvature(evaluation), rtol=0, atol=0)

    @pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad])
    def test_does_not_depend_on_the_gradient_mode_around(self, context):
        with context():
            posterior = last_layer_posterior(mlp(), log_softmax, [rows(20, 4)])
        expected = last_layer_posterior(mlp(), log_softmax, [rows(20, 4).requires_grad_()])
        torch.testing.assert_close(curvature(posterior), curvature(expected), rtol=0, atol=0)
        kept = [value for value in vars(posterior).values() if isinstance(value, torch.Tensor)]
        assert not any(value.requires_grad for value in kept)

    def test_is_summed_in_double_precision_for_nets_in_single(self):
        layer, x = seeded(lambda: nn.Linear(4, 3, bias=False)).float(), rows(200, 4).float()
        posterior = last_layer_posterior(layer, log_softmax, x.split(50))
        torch.testing.assert_close(
            feature_factor(posterior), x.double().T @ x.double(), rtol=1e-12, atol=1e-12
        )
        exact = last_layer_posterior(layer.double(), log_softmax, [x.double()])
        torch.testing.assert_close(curvature(posterior), curvature(exact), rtol=1e-5, atol=1e-5)


class TestPriorPrecision:
    @staticmethod
    def evidence(posterior, precision):
        """Marginal likelihood up to a constant, from the determinant of the whole matrix."""
        theta = stacked(posterior.weight, posterior.bias)
        identity = torch.eye(len(theta), dtype=torch.float64)
        determinant = torch.logdet(curvature(posterior) + precision * identity)
        return 0.5 * (len(theta) * precision.log() - precision * theta @ theta - determinant)

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("scale", [0.3, 5.0])
    def test_maximises_the_marginal_likelihood(self, bias, scale):
        net = mlp(bias=bias)
        with torch.no_grad():
            net[2].weight.mul_(scale)
        posterior = last_layer_posterior(net, log_softmax, [rows(60, 4)])
        grid = torch.logspace(-4, 4, 801, dtype=torch.float64)
        values = torch.stack([self.evidence(posterior, precision) for precision in grid])
        best = torch.tensor(posterior.prior_precision, dtype=torch.float64)
        assert self.evidence(posterior, best) >= values.max()
        step = grid[1] / grid[0]
        assert grid[values.argmax()] / step <= best <= grid[values.argmax()] * step

    def test_is_taken_as_given(self):
        posterior = last_layer_posterior(mlp(), log_softmax, [rows(9, 4)], prior_precision=3)
        assert posterior.prior_precision == 3.0
        assert isinstance(posterior.prior_precision, float)

    def test_is_the_strongest_for_weights_of_zero(self):
        layer = seeded(lambda: nn.Linear(4, 3))
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        assert last_layer_posterior(layer, log_softmax, [rows(9, 4)]).prior_precision == 1e4

    def test_is_the_weakest_for_a_net_that_is_certain_of_everything(self):
        layer = seeded(lambda: nn.Linear(4, 3))
        with torch.no_grad():
            layer.bias.copy_(torch.tensor([1e5, 0, 0]))
        posterior = last_layer_posterior(layer, log_softmax, [rows(9, 4)])
        assert not curvature(posterior).any()
        assert posterior.prior_precision == 1e-4
        assert all(part.isfinite().all() for part in posterior.sample(torch.Generator()))

    def test_is_found_for_a_huge_curvature(self):
        layer = seeded(lambda: nn.Linear(4, 3))
        with torch.no_grad():
            layer.weight.mul_(1e-8)
        posterior = last_layer_posterior(layer, log_softmax, [1e8 * rows(50, 4)])
        assert posterior.feature_eigenvalues.max() > 1e17
        assert 1e-4 < posterior.prior_precision < 1e4
        assert all(part.isfinite().all() for part in posterior.sample(torch.Generator()))

    @pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
    def test_that_is_not_positive_and_finite_is_refused(self, value):
        with pytest.raises(ValueError, match=f"prior_precision must be a positive.*{value}"):
            last_layer_posterior(mlp(), log_softmax, [rows(9, 4)], prior_precision=value)


class TestSample:
    @pytest.mark.parametrize("bias", [True, False])
    def test_has_the_mean_and_the_covariance_of_the_gaussian(self, bias):
        layer = seeded(lambda: nn.Linear(2, 3, bias=bias))
        posterior = last_layer_posterior(
            layer, log_softmax, [rows(30, 2) * torch.tensor([1, 3])], prior_precision=0.5
        )
        generator = torch.Generator().manual_seed(0)
        samples = torch.stack([stacked(*posterior.sample(generator)) for _ in range(3000)])
        precision = curvature(posterior) + 0.5 * torch.eye(samples.shape[1])
        mean = stacked(posterior.weight, posterior.bias)
        # Whitened by the Gaussian that they should follow, they are standard normal.
        white = (samples - mean) @ torch.linalg.cholesky(precision)
        assert white.mean(0).abs().max() < 4 / 3000**0.5
        identity = torch.eye(samples.shape[1], dtype=torch.float64)
        torch.testing.assert_close(white.T.cov(), identity, rtol=0, atol=0.1)
        assert (torch.linalg.inv(precision) - identity).abs().max() > 0.5

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_fits_the_layer(self, bias, dtype):
        net = mlp(bias=bias).to(dtype)
        posterior = last_layer_posterior(
            net, log_softmax, [rows(9, 4, dtype=torch.float32).to(dtype)]
        )
        weight, drawn_bias = posterior.sample(torch.Generator())
        assert weight.dtype == dtype
        assert weight.shape == net[2].weight.shape
        if bias:
            assert drawn_bias.dtype == dtype
            assert drawn_bias.shape == net[2].bias.shape
        else:
            assert drawn_bias is None
        torch.testing.assert_close(posterior.weight, net[2].weight.detach(), rtol=0, atol=0)

    def test_is_that_of_the_seed(self):
        posterior = last_layer_posterior(mlp(), log_softmax, [rows(9, 4)])
        sent = pickle.loads(pickle.dumps(posterior))
        state = torch.get_rng_state()
        first = stacked(*posterior.sample(torch.Generator().manual_seed(3)))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(first, stacked(*sent.sample(torch.Generator().manual_seed(3))))
        generator = torch.Generator().manual_seed(4)
        others = [stacked(*posterior.sample(generator)) for _ in range(2)]
        assert not torch.equal(first, others[0])
        assert not torch.equal(*others)


class TestModule:
    @staticmethod
    def trained_a_step():
        net = seeded(
            lambda: nn.Sequential(
                nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)
            )
        )
        net[0].weight.requires_grad_(False)
        net[3].register_forward_hook(lambda layer, args, output: None)
        net(rows(8, 4)).sum().backward()
        net[1].eval()
        net.kept = net(rows(8, 4))
        return net

    def test_is_untouched(self):
        net = self.trained_a_step()
        before = snapshot(net)
        posterior = last_layer_posterior(net, log_softmax, [rows(20, 4)])
        posterior.weight.zero_()
        posterior.bias.zero_()
        assert_same(before, snapshot(net))

    def test_is_untouched_after_an_error(self):
        net = self.trained_a_step()
        before = snapshot(net)
        with pytest.raises(ValueError, match="not finite"):
            last_layer_posterior(net, log_softmax, [rows(5, 4), rows(5, 4) * float("nan")])
        with pytest.raises(RuntimeError):
            last_layer_posterior(net, log_softmax, [rows(5, 4), rows(5, 3)])
        assert_same(before, snapshot(net))

    def test_can_be_shared_by_threads(self):
        net, found = mlp().train(), {}

        def fit(k):
            found[k] = last_layer_posterior(net, log_softmax, rows(200, 4, seed=k).split(10))

        threads = [Thread(target=fit, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for k, posterior in found.items():
            alone = last_layer_posterior(net, log_softmax, rows(200, 4, seed=k).split(10))
            assert torch.equal(curvature(posterior), curvature(alone))
        assert len(found) == 4
