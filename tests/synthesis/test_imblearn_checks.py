"""imbalanced-learn's own checks of samplers, with tiny nets."""

import pytest
from helpers.tiny_nets import dense_net, dense_synthesizer

estimator_checks = pytest.importorskip("imblearn.utils.estimator_checks")

EXCEPTIONS = {
    "check_samplers_pandas_sparse": "nets see dense rows; sparse ones are refused, as a whole",
    "check_samplers_multiclass_ova": "a row has one label; indicators of several are refused",
}


@estimator_checks.parametrize_with_checks(
    [dense_synthesizer(classifier=dense_net(max_epochs=1), random_state=0)],
    expected_failed_checks=lambda estimator: EXCEPTIONS,
)
def test_synthesizer_is_a_sampler_of_imbalanced_learn(estimator, check):
    check(estimator)


def test_tags_do_not_need_imbalanced_learn():
    tags = dense_synthesizer().__sklearn_tags__()
    assert not type(tags).__module__.startswith("imblearn")
    assert tags.sampler_tags.sample_indices
    assert tags.input_tags.dataframe
    assert tags.input_tags.three_d_array
    assert tags.target_tags.required
