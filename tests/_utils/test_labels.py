import numpy as np
import pytest

from tsynd_sk._utils._labels import encode_labels


class TestEncodeLabels:
    def test_each_label_has_the_place_of_its_class(self):
        assert encode_labels(["b", "a", "b"], np.array(["a", "b"])).tolist() == [1, 0, 1]
        assert encode_labels([3, 10], [10, 3]).tolist() == [1, 0]
        assert encode_labels([], [0, 1]).dtype == np.int64

    @pytest.mark.parametrize("label", ["1", None, float("nan"), {1}], ids=repr)
    def test_what_is_no_class_is_named(self, label):
        with pytest.raises(ValueError, match=r"not seen in fit: \[.*\]; expected some of \[0, 1\]"):
            encode_labels(np.array([label], dtype=object), [0, 1])
