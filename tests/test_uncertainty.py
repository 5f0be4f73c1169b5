import math

import numpy as np
import pytest
import torch

from tsynd_sk.uncertainty import mean_log_proba, mutual_information, predictive_entropy


def log_softmax(logits):
    return logits.log_softmax(-1)


def random_log_probs(n_members, n_samples, n_classes, *, spread=3.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n_members + 10 * n_samples + 100 * n_classes)
    logits = torch.randn(n_members, n_samples, n_classes, generator=generator, dtype=dtype)
    return (spread * logits).log_softmax(-1)


def numpy_entropy(p):
    return -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), axis=-1)


class TestMeasures:
    @pytest.mark.parametrize(("k", "n", "c"), [(2, 5, 2), (16, 7, 9), (3, 1, 10), (1, 4, 3)])
    def test_equal_the_textbook_formulas_in_nats(self, k, n, c):
        log_probs = random_log_probs(k, n, c, dtype=torch.float64)
        p = np.exp(log_probs.numpy())
        total = numpy_entropy(p.mean(0))
        expected = total - numpy_entropy(p).mean(0)
        np.testing.assert_allclose(mutual_information(log_probs), expected, atol=1e-12)
        np.testing.assert_allclose(predictive_entropy(log_probs), total, atol=1e-12)
        np.testing.assert_allclose(mean_log_proba(log_probs), np.log(p.mean(0)), atol=1e-12)

    @pytest.mark.parametrize(("k", "c"), [(2, 10), (10, 2), (5, 5)])
    @pytest.mark.parametrize("spread", [0.01, 1.0, 100.0])
    def test_stay_within_their_bounds(self, k, c, spread):
        log_probs = random_log_probs(k, 200, c, spread=spread)
        mi, entropy = mutual_information(log_probs), predictive_entropy(log_probs)
        assert mi.shape == entropy.shape == (200,)
        assert mi.min() >= -1e-6
        assert mi.max() <= math.log(min(k, c)) + 1e-6
        assert entropy.min() >= 0
        assert entropy.max() <= math.log(c) + 1e-6
        assert (mi <= entropy + 1e-6).all()

    def test_members_that_are_the_same_carry_no_epistemic_uncertainty(self):
        one = random_log_probs(1, 50, 4, dtype=torch.float64)
        assert mutual_information(one.expand(8, -1, -1)).abs().max() < 1e-15

    def test_small_disagreement_keeps_its_digits_in_float32(self):
        # Entropies near log(2), whose difference is of the order of one float32 ulp of either.
        logits = torch.zeros(2, 1, 2, dtype=torch.float64)
        logits[0, 0, 0] = 2e-3
        exact = mutual_information(log_softmax(logits)).item()
        assert 1e-7 < exact < 2e-7
        rounded = mutual_information(log_softmax(logits.float())).item()
        assert rounded == pytest.approx(exact, rel=0.05)

    @pytest.mark.parametrize("c", [2, 5])
    @pytest.mark.parametrize("measure", [mutual_information, predictive_entropy])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_certain_members_that_contradict_each_other_reach_log_2(self, c, measure, dtype):
        p = torch.zeros(2, 1, c, dtype=dtype)
        p[0, 0, 0] = p[1, 0, 1] = 1
        log_probs = p.log().requires_grad_()
        assert log_probs.isneginf().any()
        value = measure(log_probs)
        assert value.item() == pytest.approx(math.log(2), abs=1e-7)
        (gradient,) = torch.autograd.grad(value.sum(), log_probs)
        assert gradient.isfinite().all()

    @pytest.mark.parametrize("measure", [mutual_information, predictive_entropy])
    def test_certain_members_that_agree_are_certain_with_finite_gradients(self, measure):
        p = torch.zeros(3, 2, 4)
        p[..., 1] = 1
        log_probs = p.log().requires_grad_()
        value = measure(log_probs)
        assert value.tolist() == [0, 0]
        (gradient,) = torch.autograd.grad(value.sum(), log_probs)
        assert gradient.isfinite().all()

    @pytest.mark.parametrize("measure", [mutual_information, predictive_entropy])
    def test_gradients_survive_logits_that_underflow_to_zero_probability(self, measure):
        logits = torch.tensor([[[0.0, -1e4, 3.0]], [[-1e4, 0.0, 3.0]]], requires_grad=True)
        value = measure(log_softmax(logits))
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert value.isfinite().all()
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0

    def test_mean_log_probability_is_finite_where_every_member_says_zero(self):
        log_probs = torch.tensor([[[0.0, -torch.inf]]] * 2, requires_grad=True)
        value = mean_log_proba(log_probs)
        assert value.isfinite().all()
        (gradient,) = torch.autograd.grad(value.sum(), log_probs)
        assert gradient.isfinite().all()

    @pytest.mark.parametrize("measure", [mutual_information, predictive_entropy, mean_log_proba])
    def test_gradients_are_those_of_finite_differences(self, measure):
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
        assert torch.autograd.gradcheck(
            lambda values: measure(log_softmax(values)), logits.requires_grad_()
        )

    @pytest.mark.parametrize(("k", "c"), [(2, 5), (3, 2), (16, 7)])
    def test_rounding_leaves_neither_bound_and_keeps_the_gradient(self, k, c):
        logits = torch.randn(1, 500, c, generator=torch.Generator().manual_seed(0))
        logits = logits.repeat(k, 1, 1).requires_grad_()
        alike = mutual_information(log_softmax(logits))
        assert alike.min() >= 0
        certain = torch.full((k, 3, c), -1e3)
        certain[torch.arange(k), :, torch.arange(k) % c] = 0
        assert mutual_information(log_softmax(certain)).max() <= math.log(min(k, c))
        hardly_apart = logits + 1e-4 * torch.arange(k)[:, None, None] * torch.ones(c).cumsum(0)
        value = mutual_information(log_softmax(hardly_apart))
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert (gradient.abs().amax((0, 2)) > 0).all()

    def test_mutual_information_is_what_baal_calls_bald(self):
        heuristics = pytest.importorskip("baal.active.heuristics")
        log_probs = random_log_probs(16, 50, 6, dtype=torch.float64)
        # There classes come second, and members last.
        bald = heuristics.BALD().compute_score(log_probs.exp().permute(1, 2, 0).numpy())
        np.testing.assert_allclose(mutual_information(log_probs), bald, atol=1e-12)
        assert bald.max() > 0.1
