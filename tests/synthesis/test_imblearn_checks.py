"""imbalanced-learn's own checks of samplers, with tiny nets."""

import pytest
import sklearn
from helpers.tiny_nets import dense_net, dense_synthesizer
from sklearn.utils.fixes import parse_version

estimator_checks = pytest.importorskip("imblearn.utils.estimator_checks")

EXCEPTIONS = {
    "check_samplers_multiclass_ova": "a row has one label; indicators of several are refused",
}
# Earlier ones make them dense themselves.
if parse_version(sklearn.__version__) >= parse_version("1.7"):
    sparse = "nets see dense rows; sparse ones are refused, as a whole"
    EXCEPTIONS["check_samplers_pandas_sparse"] = sparse


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
