import numpy as np
import pytest
import torch

from tsynd_sk.evaluation import CORRUPTIONS, augment, corrupt


def change(X, corrupted):
    """Mean absolute change of every image."""
    difference = corrupted.astype(float) - X
    return np.abs(difference).reshape(len(X), -1).mean(axis=1)


def boxes(n, side, first, last):
    """Grey images with a bright box in the middle."""
    X = np.full((n, side, side), 90, np.uint8)
    X[:, first:last, first:last] = 200
    return X


def moments(images):
    """Centre, from the middle of the image, size and angle of what is bright, by the side."""
    side = images.shape[1]
    rows, columns = np.mgrid[0:side, 0:side] / side
    weight = images / images.sum(axis=(1, 2), keepdims=True)
    centre = np.stack([(weight * a).sum(axis=(1, 2)) for a in (rows, columns)], axis=1)
    r, c = (a - m[:, None, None] for a, m in zip((rows, columns), centre.T, strict=True))
    rr, rc, cc = ((weight * a).sum(axis=(1, 2)) for a in (r * r, r * c, c * c))
    angle = np.degrees(np.arctan2(2 * rc, cc - rr) / 2)
    return centre - (side - 1) / 2 / side, np.sqrt(rr + cc), angle


@pytest.mark.parametrize("kind", CORRUPTIONS)
class TestEveryCorruption:
    def test_every_image_changes_and_keeps_shape_dtype_and_range(self, kind, scene):
        for X in (scene, scene[..., 0] / np.float32(100) - 1):
            before = X.copy()
            corrupted = corrupt(X, kind, random_state=0)
            np.testing.assert_array_equal(X, before)
            assert corrupted.shape == X.shape
            assert corrupted.dtype == X.dtype
            assert (change(X, corrupted) > 0).all()
            if X.dtype != np.uint8:
                assert corrupted.min() >= X.min()
                assert corrupted.max() <= X.max()

    def test_layouts_hold_the_same_images(self, kind, scene):
        expected = corrupt(scene, kind, random_state=0)
        first = np.ascontiguousarray(np.moveaxis(scene, -1, 1))
        moved = corrupt(first, kind, random_state=0)
        np.testing.assert_array_equal(np.moveaxis(moved, 1, -1), expected)
        flat = corrupt(scene.reshape(12, -1), kind, random_state=0, image_shape=(24, 20, 3))
        np.testing.assert_array_equal(flat.reshape(scene.shape), expected)

    def test_rows_draw_for_themselves_by_seed_and_place(self, kind, scene):
        X = scene[[0] * 12]
        whole = corrupt(X, kind, random_state=3)
        np.testing.assert_array_equal(corrupt(X[:2], kind, random_state=3), whole[:2])
        assert not np.array_equal(corrupt(X, kind, random_state=4), whole)
        # Blocks come in whole pixels and qualities of JPEG in whole numbers: some rows share them.
        coarse = kind in ("pixelation", "jpeg")
        assert len({image.tobytes() for image in whole}) >= (3 if coarse else 8)

    def test_severity_hurts_more_and_more(self, kind, scene):
        changes = [
            change(scene, corrupt(scene, kind, s, random_state=0)).mean() for s in range(1, 6)
        ]
        assert (np.diff(changes) > 0).all()

    def test_values_count_by_share_of_their_range(self, kind, scene):
        X = scene.astype(np.float32)
        first, other = corrupt(X, kind, random_state=0), corrupt(X * 8 - 64, kind, random_state=0)
        np.testing.assert_allclose((other + 64) / 8, first, atol=0.01)

    def test_every_number_of_channels_and_tiny_or_constant_images(self, kind):
        rng = np.random.default_rng(0)
        for shape in ((2, 9, 7), (1, 1, 1), (1, 60, 3)):
            flat = rng.random((3, np.prod(shape)))
            assert np.isfinite(corrupt(flat, kind, 5, random_state=0, image_shape=shape)).all()
        constant = np.full((2, 8, 8), 7.5)
        np.testing.assert_array_equal(corrupt(constant, kind, random_state=0), constant)


class TestKinds:
    def test_noise_has_the_strength_of_its_severity(self):
        X = np.full((50, 20, 20), 128, np.uint8)
        spread = (corrupt(X, "noise", 3, random_state=0) / 255.0).std(axis=(1, 2))
        assert 0.09 * 2 / 3 * 0.85 < spread.min() < 0.07
        assert 0.08 < spread.max() < 0.09 * 1.15

    def test_lengths_are_shares_of_the_side(self):
        # A smooth scene as seen by cameras of two resolutions.
        small, large = (
            np.add.outer(np.sin(5 * np.arange(s) / s), np.cos(9 * np.arange(s) / s))[None]
            for s in (32, 96)
        )
        for kind in ("blur", "shift", "scale", "rotation", "pixelation", "occlusion"):
            a, b = (change(X, corrupt(X, kind, 4, random_state=1))[0] for X in (small, large))
            assert a == pytest.approx(b, rel=0.15), kind

    def test_brightness_contrast_and_gamma_go_both_ways(self, scene):
        X = scene[[0] * 12]
        for kind, measure in (("brightness", np.mean), ("contrast", np.std), ("gamma", np.mean)):
            up = measure(corrupt(X, kind, random_state=0), axis=(1, 2, 3)) > measure(X[0])
            assert 0 < up.sum() < 12

    def test_shift_and_rotation_leave_no_black_margins(self):
        X = boxes(8, 30, 10, 20)
        for kind in ("shift", "rotation"):
            corrupted = corrupt(X, kind, random_state=0)
            assert corrupted.min() >= 89
            assert np.abs((corrupted > 145).sum(axis=(1, 2)) - 100).max() <= 6
        centre = moments(corrupt(X, "shift", random_state=0) - 90.0)[0]
        distance = np.hypot(*centre.T)
        assert (distance > 0.14 * 2 / 3 - 0.01).all()
        assert (distance < 0.14 + 0.01).all()
        assert np.ptp(np.arctan2(*centre.T)) > 2

    def test_motion_smears_along_one_direction(self):
        X = np.zeros((12, 41, 41))
        X[:, 20, 20] = 1
        smeared = corrupt(X, "motion", 4, random_state=0)
        # Bilinear interpolation loses nothing.
        np.testing.assert_allclose(smeared.sum(axis=(1, 2)), 1, rtol=1e-4)
        _, size, angle = moments(smeared)
        # A uniform line of length l has the variance l² / 12; a pixel is wide itself.
        lengths = np.sqrt(12) * size
        assert lengths.min() > 0.21 * 2 / 3 * 0.9
        assert lengths.max() < 0.21 * 1.2
        assert np.ptp(angle) > 90

    def test_scale_goes_both_ways_about_the_centre(self):
        X = boxes(12, 60, 20, 40)
        area = (corrupt(X, "scale", 3, random_state=0) > 145).sum(axis=(1, 2)) / 400
        doublings = np.abs(np.log2(area)) / 2
        assert 0 < (area > 1).sum() < 12
        assert doublings.min() > 0.32 * 2 / 3 - 0.08
        assert doublings.max() < 0.32 + 0.08
        scaled = corrupt(X, "scale", 5, random_state=0) - 90.0
        assert scaled.min() >= -1
        np.testing.assert_allclose(moments(scaled)[0], 0, atol=0.002)

    def test_occlusion_is_one_box_of_mid_grey(self):
        X = np.zeros((8, 50, 40), np.uint8)
        covered = corrupt(X, "occlusion", 3, random_state=0)
        assert set(np.unique(covered)) == {0, 128}
        for image in covered:
            rows, columns = np.nonzero(image)
            height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert len(rows) == height * width
            assert 0.36 * 2 / 3 * 50 - 1 < height < 0.36 * 50 + 1
            assert 0.36 * 2 / 3 * 40 - 1 < width < 0.36 * 40 + 1


class TestCorruptArguments:
    def test_unknown_kind_names_the_known(self, scene):
        with pytest.raises(ValueError, match=r"'fog'; known: noise, blur, .*occlusion"):
            corrupt(scene, "fog")

    def test_severity_is_one_to_five(self, scene):
        for severity in (0, 6, None):
            with pytest.raises(ValueError, match=f"Unknown severity {severity}; known: 1, 2"):
                corrupt(scene, "noise", severity)

    def test_tables_and_ambiguous_layouts_are_refused(self):
        with pytest.raises(ValueError, match="image_shape="):
            corrupt(np.zeros((4, 64)), "noise")
        with pytest.raises(ValueError, match="ambiguous"):
            corrupt(np.zeros((4, 3, 8, 3)), "noise")

    def test_other_numbers_keep_their_type(self):
        rng = np.random.default_rng(0)
        for X in (rng.integers(-1000, 1000, (4, 9, 9)), rng.random((4, 9, 9)) > 0.5):
            corrupted = corrupt(X, "blur", 5, random_state=0)
            assert corrupted.dtype == X.dtype
            assert not np.array_equal(corrupted, X)

    def test_generator_moves_on_and_the_one_of_torch_is_left_alone(self, scene):
        rng = np.random.RandomState(0)
        first, second = (corrupt(scene, "noise", random_state=rng) for _ in range(2))
        assert not np.array_equal(first, second)
        state = torch.get_rng_state()
        for kind in CORRUPTIONS:
            corrupt(scene[:2], kind, random_state=0)
        assert torch.equal(torch.get_rng_state(), state)


class TestAugment:
    def test_mirrors_every_second_image_and_nothing_else(self):
        X = np.tile(np.arange(20, dtype=np.uint8), (200, 20, 1))
        still = augment(X, degrees=0, scale=0, shift=0, random_state=0)
        mirrored = (still == X[..., ::-1]).all(axis=(1, 2))
        assert (mirrored | (still == X).all(axis=(1, 2))).all()
        assert 70 < mirrored.sum() < 130
        same = augment(X, flip=False, degrees=0, scale=0, shift=0, random_state=0)
        np.testing.assert_array_equal(same, X)

    def test_each_movement_keeps_to_its_bounds_and_fills_them(self):
        bar = np.zeros((60, 61, 61))
        bar[:, 27:34, 18:43] = 1
        still = {"flip": False, "degrees": 0, "scale": 0, "shift": 0}
        size = moments(bar)[1][0]
        shifts, sizes, angles = moments(augment(bar, **still | {"shift": 0.1}, random_state=0))
        assert 0.08 < shifts.max() < 0.102
        assert -0.102 < shifts.min() < -0.08
        np.testing.assert_allclose(sizes, size, rtol=0.02)
        np.testing.assert_allclose(angles, 0, atol=0.1)
        shifts, sizes, angles = moments(augment(bar, **still | {"scale": 0.1}, random_state=0))
        assert 0.895 < (sizes / size).min() < 0.93
        assert 1.07 < (sizes / size).max() < 1.105
        np.testing.assert_allclose(shifts, 0, atol=0.002)
        shifts, sizes, angles = moments(augment(bar, **still | {"degrees": 15}, random_state=0))
        assert 12 < angles.max() < 15.1
        assert -15.1 < angles.min() < -12
        np.testing.assert_allclose(sizes, size, rtol=0.02)

    def test_rows_draw_for_themselves_and_a_prefix_is_augmented_as_in_the_whole(self, scene):
        X = scene[[0] * 8]
        whole = augment(X, random_state=3)
        assert whole.shape == X.shape
        assert whole.dtype == X.dtype
        assert len({image.tobytes() for image in whole}) == 8
        np.testing.assert_array_equal(augment(X[:3], random_state=3), whole[:3])
        flat = augment(X.reshape(8, -1), random_state=3, image_shape=(24, 20, 3))
        np.testing.assert_array_equal(flat.reshape(X.shape), whole)
        assert not np.array_equal(augment(X, random_state=4), whole)

    def test_what_is_no_movement_is_refused(self, scene):
        for params in ({"degrees": -1}, {"scale": 0.6}, {"shift": 0.6}):
            with pytest.raises(ValueError, match=next(iter(params))):
                augment(scene, **params)
