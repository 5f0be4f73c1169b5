import hashlib
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small import COLUMNS, assert_same_answer, digits, quick


def digest():
    """Fit and sample from nothing, for comparison with another process."""
    torch.set_num_threads(1)
    X_new, y_new, info = quick().fit(*digits(60)).sample(70, return_info=True)
    parts = [X_new, y_new, *(info[column] for column in COLUMNS)]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def global_state():
    return (
        torch.get_rng_state().tolist(),
        repr(np.random.get_state()),  # noqa: NPY002
        random.getstate(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    )


class TestDeterminism:
    def test_equal_seeds_give_equal_bits_in_a_fresh_process(self):
        torch.rand(3)
        code = "import test_synthesis; print(test_synthesis.digest())"
        fresh = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert fresh.stdout.strip() == digest() == digest()

    def test_other_seeds_give_other_nets_and_images(self, frozen):
        X, y = digits(60)
        first, second = (quick(random_state=seed).fit(X, y) for seed in (0, 1))
        assert (first.uncertainty(X) != second.uncertainty(X)).any()
        synthesizer = frozen()
        answers = [synthesizer.sample(30, random_state=seed)[0] for seed in (1, 2)]
        assert (answers[0] != answers[1]).any()

    def test_seed_of_the_call_goes_before_that_of_the_estimator(self, frozen):
        answers = [
            frozen(random_state=seed).sample(30, random_state=7, return_info=True)
            for seed in (0, 1)
        ]
        assert_same_answer(*answers)
        default, named = (
            frozen(random_state=3).sample(30, random_state=seed, return_info=True)
            for seed in (None, 3)
        )
        assert_same_answer(default, named)

    def test_generator_moves_on_between_calls(self, frozen):
        rng = np.random.RandomState(0)
        synthesizer = frozen()
        first, second = (synthesizer.sample(30, random_state=rng)[0] for _ in range(2))
        assert (first != second).any()

    def test_threads_change_nothing(self, frozen):
        one, two = (
            frozen(n_jobs=n_jobs, batch_size=16).sample(200, return_info=True)
            for n_jobs in (None, 2)
        )
        assert_same_answer(one, two)

    @pytest.mark.parametrize("label_policy", ["constrain", "keep"])
    def test_batch_size_changes_rounding_only(self, frozen, label_policy):
        whole, parts = (
            frozen(batch_size=size, label_policy=label_policy).sample(200, return_info=True)
            for size in (256, 13)
        )
        np.testing.assert_array_equal(whole[1], parts[1])
        np.testing.assert_array_equal(whole[2].source_index, parts[2].source_index)
        difference = np.abs(whole[0] - parts[0]).max((1, 2))
        # Where gradients nearly cancel, the ascent magnifies rounding.
        assert np.mean(difference < 1e-3) >= 0.99
        assert difference.max() < 0.05
        np.testing.assert_allclose(whole[2].uncertainty, parts[2].uncertainty, atol=1e-3)

    def test_two_threads_sample_from_one_estimator_as_each_would_alone(self, digits_synthesizer):
        def sample(seed):
            return digits_synthesizer.sample(60, random_state=seed, return_info=True)

        alone = [sample(seed) for seed in range(6)]
        with ThreadPoolExecutor(2) as pool:
            for one, other in zip(alone, pool.map(sample, range(6)), strict=True):
                assert_same_answer(one, other)

    @pytest.mark.parametrize("grad", [True, False])
    def test_global_state_is_left_alone(self, grad):
        X, y = digits(60)
        with torch.set_grad_enabled(grad):
            before = global_state()
            # Fitting needs gradients, as skorch's own does under no_grad.
            synthesizer = quick().fit(X, y)
            assert global_state() == before
            synthesizer.sample(70)
            synthesizer.synthesize(X[:3], y[:3])
            synthesizer.uncertainty(X[:3])
            synthesizer.reconstruct(X[:3])
            assert global_state() == before


def test_sampling_works_in_inference_mode(digits_synthesizer):
    expected = digits_synthesizer.sample(4, random_state=0, return_info=True)
    with torch.inference_mode():
        answer = digits_synthesizer.sample(4, random_state=0, return_info=True)
        assert torch.is_inference_mode_enabled()
    assert_same_answer(answer, expected)
