import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_ncae._hold_out import check_groups, hold_out, one_of_each

groups_of_images = st.lists(st.integers(0, 9), min_size=1, max_size=60)


@given(groups=groups_of_images, share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_groups_are_held_out_whole(groups, share, seed):
    numbers = check_groups(groups, len(groups))
    held_out = hold_out(numbers, share, np.random.RandomState(seed))
    assert not set(numbers[held_out]) & set(numbers[~held_out])
    assert len(set(numbers[held_out])) == max(1, round(share * len(set(groups))))


@given(groups=groups_of_images, seed=st.integers(0, 5))
def test_one_image_of_each_group_is_drawn(groups, seed):
    numbers = check_groups(groups, len(groups))
    drawn = one_of_each(numbers, np.random.RandomState(seed))
    assert sorted(numbers[drawn]) == sorted(set(numbers))
    assert (np.diff(drawn) > 0).all()


def test_any_image_of_a_group_may_be_drawn():
    drawn = {int(one_of_each(np.zeros(4, int), np.random.RandomState(i))[0]) for i in range(50)}
    assert drawn == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "groups",
    [
        ["b", "a", "b"],
        [2, 1, 2],
        ("2", 2, "2"),
        np.array([7.5, 2, 7.5]),
        [True, False, True],
        pd.Series(["b", "a", "b"], dtype="category"),
    ],
)
def test_groups_are_numbered_as_they_appear(groups):
    np.testing.assert_array_equal(check_groups(groups, 3), [0, 1, 0])


def test_groups_may_be_any_sequence():
    np.testing.assert_array_equal(check_groups(range(3), 3), [0, 1, 2])


def test_without_groups_each_image_is_one():
    np.testing.assert_array_equal(check_groups(None, 3), [0, 1, 2])
    np.testing.assert_array_equal(one_of_each(np.arange(3), np.random.RandomState(0)), [0, 1, 2])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([0, 1], "2 values for 3 images"),
        ([0, 1, 2, 2], "4 values for 3 images"),
        ([0, np.nan, 1], "missing values"),
        (["a", np.nan, "b"], "missing values"),
        (np.array(["a", None, "b"], dtype=object), "missing values"),
        (pd.Series(["a", None, "b"]), "missing values"),
        (np.zeros((3, 2)), "one number or name for each image, got a ndarray"),
        ([[1], [2], [1]], "one number or name for each image, got a list"),
        (pd.DataFrame({"part": [1, 2, 1]}), "got a DataFrame"),
        (5, "got a int: 5"),
        ("abc", "got a str: 'abc'"),
        (b"abc", "got a bytes: b'abc'"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        check_groups(groups, 3)


def test_any_group_may_be_held_out():
    groups = np.repeat([0, 1, 2, 3], 2)
    drawn = [hold_out(groups, 0.25, np.random.RandomState(i)).nonzero()[0][0] for i in range(50)]
    assert set(drawn) == {0, 2, 4, 6}
