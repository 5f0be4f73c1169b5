import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator

from tsynd_sk.images._format import ImageFormat, ValueRange
from tsynd_sk.images._validation import check_images

LAYOUTS = {
    # rows of X, image_shape given, image_shape found, layout found
    "grey": ((9, 7), None, (1, 9, 7), "hw"),
    "grey, narrow": ((3, 28), (3, 28), (1, 3, 28), "hw"),
    "grey, axis first": ((1, 9, 7), None, (1, 9, 7), "chw"),
    "grey, axis last": ((9, 7, 1), None, (1, 9, 7), "hwc"),
    "colour, channels first": ((3, 9, 7), None, (3, 9, 7), "chw"),
    "colour, channels last": ((9, 7, 3), None, (3, 9, 7), "hwc"),
    "four channels": ((9, 7, 4), None, (4, 9, 7), "hwc"),
    "twelve channels first": ((12, 9, 7), (12, 9, 7), (12, 9, 7), "chw"),
    "twelve channels last": ((9, 7, 12), (12, 9, 7), (12, 9, 7), "hwc"),
    "flat grey": ((63,), (9, 7), (1, 9, 7), "hw"),
    "flat channels first": ((189,), (3, 9, 7), (3, 9, 7), "chw"),
    "flat channels last": ((189,), (9, 7, 3), (3, 9, 7), "hwc"),
    "table": ((63,), None, None, None),
}
DTYPES = ["uint8", "float32", "float64", "float16", "int16", "uint16", "int64", "bool"]


def random_images(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        limits = np.iinfo(np.int16 if dtype == np.int64 else dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    # Values that float32 has too: more digits cannot be kept by networks.
    return rng.standard_normal(shape).astype(np.float16).astype(dtype)


class TestRoundTrip:
    @pytest.mark.parametrize(
        ("layout", "dtype"),
        [*((layout, "uint8") for layout in LAYOUTS), *(("grey", dtype) for dtype in DTYPES[1:])],
    )
    def test_nothing_is_lost_in_any_layout_and_dtype(self, layout, dtype):
        row, given, image_shape, found = LAYOUTS[layout]
        X = random_images((5, *row), dtype)
        original = X.copy()
        image_format = ImageFormat.infer(X, given)
        assert (image_format.image_shape, image_format.layout) == (image_shape, found)
        x = image_format.to_tensor(X)
        assert x.dtype == torch.float32
        assert x.shape == (5, *(image_shape or row))
        assert x.is_contiguous()
        folded = X.reshape(5, *given) if given and len(row) == 1 else X
        folded = np.moveaxis(folded, -1, 1) if found == "hwc" else folded
        expected = folded.reshape(x.shape).astype(np.float32) / (255 if dtype == "uint8" else 1)
        np.testing.assert_array_equal(x, expected)
        back = image_format.to_array(x)
        assert back.dtype == X.dtype
        assert back.flags.c_contiguous
        np.testing.assert_array_equal(back, X)
        # Writing to the tensor or to the result leaves the user's array alone.
        x.fill_(0)
        back.fill(1)
        np.testing.assert_array_equal(X, original)

    @pytest.mark.parametrize(
        "view",
        [
            lambda X: X[:, ::-1, ::-1],
            np.asfortranarray,
            lambda X: np.broadcast_to(X[:1], X.shape),
        ],
    )
    def test_views_with_any_strides_are_read_as_numpy_shows_them(self, view):
        X = view(random_images((4, 6, 5), "uint8"))
        X.flags.writeable = False
        image_format = ImageFormat.infer(X)
        x = image_format.to_tensor(X)
        np.testing.assert_array_equal(image_format.to_array(x), X)
        np.testing.assert_array_equal(x, ImageFormat.infer(X).to_tensor(np.ascontiguousarray(X)))
        # A read-only array gives a tensor that may be written to, without a warning.
        x += 1

    @pytest.mark.parametrize(
        ("dtype", "values", "expected"),
        [
            ("uint8", [-0.3, 0.4 / 255, 0.6 / 255, 1.2], [0, 0, 1, 255]),
            ("int16", [-40000.0, -0.6, 0.6, 40000.0], [-32768, -1, 1, 32767]),
            ("uint16", [-5.0, 1.4, 1.6, 70000.0], [0, 1, 2, 65535]),
            ("bool", [-1.0, 0.4, 0.6, 2.0], [False, False, True, True]),
        ],
    )
    def test_values_are_rounded_and_held_to_the_dtype_never_wrapped(self, dtype, values, expected):
        image_format = ImageFormat.infer(np.zeros((1, 2, 2), dtype=dtype))
        back = image_format.to_array(torch.tensor(values).reshape(1, 1, 2, 2))
        assert back.ravel().tolist() == expected

    def test_tensors_that_require_gradients_and_no_rows_at_all_are_fine(self):
        image_format = ImageFormat.infer(np.zeros((1, 5, 5, 3), dtype=np.uint8))
        x = torch.zeros(2, 3, 5, 5, requires_grad=True)
        assert image_format.to_array(x).shape == (2, 5, 5, 3)
        assert image_format.to_array(torch.zeros(0, 3, 5, 5)).shape == (0, 5, 5, 3)
        assert image_format.to_tensor(np.zeros((0, 5, 5, 3), np.uint8)).shape == (0, 3, 5, 5)


class TestLayouts:
    @pytest.mark.parametrize(
        ("row", "settled"),
        [
            ((3, 28, 3), (3, 28, 3)),
            ((28, 28, 12), (12, 28, 28)),
            ((28, 28, 28), (28, 28, 28)),
            ((28, 3), (28, 3)),
            ((3, 28), (3, 28)),
        ],
    )
    def test_ambiguous_layout_is_refused_until_image_shape_settles_it(self, row, settled):
        X = random_images((2, *row), "float32")
        with pytest.raises(ValueError, match=r"ambiguous.*image_shape="):
            ImageFormat.infer(X)
        image_format = ImageFormat.infer(X, settled)
        channels = settled if len(settled) == 3 else (1, *settled)
        assert image_format.image_shape == channels
        np.testing.assert_array_equal(image_format.to_array(image_format.to_tensor(X)), X)

    @pytest.mark.parametrize("shape", [(2, 5, 5, 5, 3), (2, 1, 5, 5, 5, 3)])
    def test_volumes_are_refused_by_name(self, shape):
        with pytest.raises(ValueError, match=rf"X has {len(shape)} dimensions.*Volumes"):
            ImageFormat.infer(np.zeros(shape))

    @pytest.mark.parametrize(
        ("row", "image_shape", "expected"),
        [
            ((9, 7, 3), (3, 9, 7), "hwc"),
            ((3, 9, 7), (9, 7, 3), "chw"),
            ((1, 9, 7), (9, 7), "chw"),
            ((9, 7), (9, 7, 1), "hw"),
        ],
    )
    def test_image_shape_may_name_the_axes_in_another_order_than_x(
        self, row, image_shape, expected
    ):
        image_format = ImageFormat.infer(np.zeros((2, *row)), image_shape)
        assert image_format.layout == expected
        assert image_format.image_shape[1:] == (9, 7)

    @pytest.mark.parametrize(
        ("row", "image_shape", "message"),
        [
            ((64,), (9, 7), r"\(9, 7\), or flat ones of 63 values; got rows of shape \(64,\)"),
            ((63,), (9, 7, 3), r"flat ones of 189 values; got rows of shape \(63,\)"),
            ((9, 7), (7, 9), r"image_shape=\(7, 9\), .*; got rows of shape \(9, 7\)"),
            ((9, 7, 3), (3, 7, 9), r"got rows of shape \(9, 7, 3\)"),
        ],
    )
    def test_image_shape_that_does_not_match_is_refused(self, row, image_shape, message):
        with pytest.raises(ValueError, match=message):
            ImageFormat.infer(np.zeros((2, *row)), image_shape)

    @pytest.mark.parametrize("image_shape", [(9,), (1, 3, 9, 7), (0, 7), (9.5, 7)])
    def test_image_shape_that_is_none_says_what_is_expected(self, image_shape):
        with pytest.raises(ValueError, match=r"image_shape=.* is not valid.*\(height, width\)"):
            ImageFormat.infer(np.zeros((2, 63)), image_shape)


class TestValueRange:
    @pytest.mark.parametrize("row", [(16, 16), (24,)])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_what_is_clipped_survives_the_way_to_the_user_and_back(self, dtype, row):
        X = random_images((20, *row), dtype)
        image_format = ImageFormat.infer(X)
        value_range = ValueRange.of(X, image_format)
        x = image_format.to_tensor(X)
        generator = torch.Generator().manual_seed(0)
        spread = (x.max() - x.min()) or 1.0
        x_20 = torch.cat([x] * 20)
        noisy = x_20 + spread * torch.randn(x_20.shape, generator=generator)
        clipped = value_range.clip(noisy)
        back = image_format.to_tensor(image_format.to_array(clipped))
        assert torch.equal(back, clipped)
        # Real images are in the range, so that they stay as they are.
        assert torch.equal(value_range.clip(x), x)
        # Without bending more than the type demands.
        unit = {"uint8": 0.5 / 255, "float16": 2.0**-10 * spread}.get(
            dtype, 0 if dtype.startswith("float") else 0.5
        )
        held = noisy.clamp(value_range.low, value_range.high)
        assert (clipped - held).abs().max() <= unit * (1 + 1e-4)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_images_stay_between_the_extremes_of_the_data(self, dtype):
        X = random_images((5, 6, 5), dtype)
        if X.dtype == np.uint8:
            X = X // 2 + 20
        image_format = ImageFormat.infer(X)
        value_range = ValueRange.of(X, image_format)
        far = torch.tensor([-1e6, 1e6]).reshape(2, 1, 1, 1).expand(2, 1, 6, 5)
        ends = image_format.to_array(value_range.clip(far))
        assert (ends[0] == X.min()).all()
        assert (ends[1] == X.max()).all()

    def test_features_of_a_table_have_ranges_of_their_own(self):
        X = np.array([[0.0, -5.0, 7.0], [1.0, 300.0, 7.0]])
        value_range = ValueRange.of(X, ImageFormat.infer(X))
        clipped = value_range.clip(torch.tensor([[2.0, 2.0, 2.0], [-9.0, -9.0, -9.0]]))
        assert clipped.tolist() == [[1, 2, 7], [0, -5, 7]]

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_gradients_pass_where_values_are_in_the_range(self, dtype):
        X = np.zeros((2, 2, 2), dtype=dtype)
        X[1] = 1
        high = 1 / 255 if dtype == "uint8" else 1.0
        x = torch.tensor([-0.5, 0.3, 0.6, 1.7]).mul(high).reshape(1, 1, 2, 2).requires_grad_()
        clipped = ValueRange.of(X, ImageFormat.infer(X)).clip(x)
        (3 * clipped).sum().backward()
        assert x.grad.ravel().tolist() == [0, 3, 3, 0]


class Dummy(BaseEstimator):
    def fit(self, X, image_shape=None):
        check_images(self, X, reset=True, image_shape=image_shape)
        return self

    def check(self, X):
        return check_images(self, X, reset=False)


GREY = random_images((4, 6, 5), "float32")


class TestCheckImages:
    def test_fit_learns_the_format_and_later_images_pass_unchanged(self):
        X = random_images((4, 6, 5, 3), "uint8")
        dummy = Dummy().fit(X)
        assert not hasattr(dummy, "n_features_in_")
        assert dummy.image_shape_ == (3, 6, 5)
        np.testing.assert_array_equal(dummy.check(X[:1]), X[:1])
        assert dummy.check(X).dtype == np.uint8

    @pytest.mark.parametrize("shape", [(4, 6, 5), (4, 30)])
    @pytest.mark.parametrize(
        ("value", "message"), [(np.nan, "contains NaN"), (np.inf, "contains infinity")]
    )
    def test_nan_and_infinity_are_refused(self, shape, value, message):
        X = np.ones(shape)
        X.flat[7] = value
        with pytest.raises(ValueError, match=message):
            Dummy().fit(X)
        dummy = Dummy().fit(np.ones(shape))
        with pytest.raises(ValueError, match=message):
            dummy.check(X)

    @pytest.mark.parametrize("shape", [(0, 6, 5), (4, 0, 5), (0, 30), (4, 0)])
    def test_empty_arrays_are_refused(self, shape):
        with pytest.raises(ValueError, match=r"which is empty|Found array with 0"):
            Dummy().fit(np.empty(shape))

    @pytest.mark.parametrize(
        ("X", "message"),
        [
            (GREY.astype(str), "strings"),
            (GREY.astype(complex).reshape(4, 30), "Complex data not supported"),
            (np.full((4, 6, 5), 1e39), "too large for dtype\\('float32'\\)"),
            (np.full((4, 30), -1e39), "too large for dtype\\('float32'\\)"),
            (np.ones(7), "1D array"),
            ([[[1.0, 2.0]], [[1.0]]], "inhomogeneous"),
            (np.ones((2, 3, 6, 5, 4)), "Volumes"),
        ],
    )
    def test_what_is_no_images_is_refused(self, X, message):
        with pytest.raises(ValueError, match=message):
            Dummy().fit(X)

    @pytest.mark.parametrize(
        ("fitted", "later", "message"),
        [
            ((6, 5), (5, 6), r"shape \(5, 6\), but Dummy is expecting.*\(6, 5\), as in fit"),
            ((6, 5), (6, 5, 1), r"rows of shape \(6, 5, 1\).*expecting.*\(6, 5\)"),
            ((6, 5, 3), (3, 6, 5), r"rows of shape \(3, 6, 5\).*expecting.*\(6, 5, 3\)"),
            ((6, 5), (30,), r"rows of shape \(30,\).*expecting.*\(6, 5\)"),
            ((30,), (31,), r"31 features, but Dummy is expecting 30"),
            ((30,), (6, 5), r"rows of shape \(6, 5\).*expecting.*\(30,\)"),
        ],
    )
    def test_rows_of_another_shape_than_in_fit_are_refused(self, fitted, later, message):
        dummy = Dummy().fit(np.ones((2, *fitted)))
        with pytest.raises(ValueError, match=message):
            dummy.check(np.ones((2, *later)))

    def test_floats_up_to_255_where_fit_saw_uint8_are_refused(self):
        X = random_images((4, 6, 5), "uint8")
        dummy = Dummy().fit(X)
        with pytest.raises(ValueError, match=r"Dummy was fitted on uint8.*divides by 255"):
            dummy.check(X.astype(float))
        with pytest.raises(ValueError, match=r"dtype int64.*Pass uint8"):
            dummy.check(X.astype(np.int64) * 2)
        # The scale that networks see is welcome.
        dummy.check(X / 255)

    @pytest.mark.parametrize("dtype", ["float32", "int64"])
    def test_uint8_where_fit_saw_another_type_up_to_255_is_refused(self, dtype):
        X = random_images((4, 6, 5), "uint8")
        dummy = Dummy().fit(X.astype(dtype) * 2)
        with pytest.raises(ValueError, match=rf"X is uint8.*Pass X\.astype\('{dtype}'\)"):
            dummy.check(X)
        Dummy().fit(X / 255).check(X)
