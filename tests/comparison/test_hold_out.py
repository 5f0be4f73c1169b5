"""What is held out of a set without a split of its own."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from tsynd_sk.comparison._splits import hold_out

NAMES = ["ill", "well"]


def test_without_groups_classes_keep_their_shares():
    y = np.repeat([0, 1], [40, 8])
    train, held = hold_out(y, NAMES)
    assert np.bincount(y[held]).tolist() == [10, 2]
    assert sorted([*train, *held]) == list(range(48))
    expected = train_test_split(np.arange(48), test_size=0.25, stratify=y, random_state=0)
    np.testing.assert_array_equal(train, expected[0])


def test_the_random_state_changes_the_draw():
    y, groups = np.arange(80) % 2, np.arange(80) // 4
    for kept in (None, groups):
        draws = [set(hold_out(y, NAMES, groups=kept, random_state=s)[1]) for s in (0, 0, 1)]
        assert draws[0] == draws[1] != draws[2]


def test_equal_images_stay_together_across_groups():
    y = np.arange(40) % 2
    groups = np.arange(40) // 2
    first_equal = np.arange(40)
    first_equal[[2, 4, 6]] = 0
    for seed in range(5):
        train, held = hold_out(y, NAMES, first_equal=first_equal, random_state=seed)
        assert len({row in held for row in (0, 2, 4, 6)}) == 1
        train, held = hold_out(y, NAMES, groups=groups, first_equal=first_equal, random_state=seed)
        assert not set(groups[train]) & set(groups[held])
        assert len({row in held for row in range(8)}) == 1
        assert abs(len(held) - 10) <= 4


@pytest.mark.parametrize(
    ("y", "groups", "message"),
    [
        ([0, 0, 0, 1], None, r"there is one image only of \['well'\]"),
        ([0, 0, 1, 1], np.array(list("abcc")), r"one group .* only of \['well'\]"),
        ([0, 0, 1, 1], np.array(list("aaaa")), r"one group .* only of \['ill', 'well'\]"),
        ([0, 0, 1, 1], None, r"a quarter of 4 images of 2 classes cannot be held out"),
    ],
)
def test_what_cannot_be_on_both_sides_is_explained(y, groups, message):
    with pytest.raises(ValueError, match=message):
        hold_out(np.array(y), NAMES, groups=groups)
