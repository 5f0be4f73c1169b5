import numpy as np
import pytest
import torch

from tsynd_sk.evaluation import CORRUPTIONS, augment, corrupt


def change(X, corrupted):
    """Mean absolute change of every image."""
    difference = corrupted.astype(float) - X
    return np.abs(difference).reshape(len(X), -1).mean(axis=1)


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
        np.testing.assert_array_equal(
            np.moveaxis(corrupt(first, kind, random_state=0), 1, -1), expected
        )
        for X, image_shape in ((scene, (24, 20, 3)), (first, (3, 24, 20))):
            flat = corrupt(X.reshape(12, -1), kind, random_state=0, image_shape=image_shape)
            np.testing.assert_array_equal(flat.reshape(X.shape), corrupt(X, kind, random_state=0))

    def test_seed_repeats_and_a_prefix_is_corrupted_as_in_the_whole(self, kind, scene):
        X = scene[[0] * 6]
        whole = corrupt(X, kind, random_state=3)
        np.testing.assert_array_equal(corrupt(X, kind, random_state=3), whole)
        np.testing.assert_array_equal(corrupt(X[:2], kind, random_state=3), whole[:2])
        assert not np.array_equal(corrupt(X, kind, random_state=4), whole)

    def test_rows_draw_for_themselves(self, kind, scene):
        corrupted = corrupt(scene[[0] * 12], kind, random_state=0)
        # Blocks come in whole pixels and qualities of JPEG in whole numbers: some rows share them.
        coarse = kind in ("pixelation", "jpeg")
        assert len({image.tobytes() for image in corrupted}) >= (3 if coarse else 11)

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
        for shape in ((2, 9, 7), (4, 9, 7), (1, 2, 2), (1, 1, 1), (1, 60, 3)):
            X = rng.random((3, *shape))
            flat = X.reshape(3, -1)
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
        brighter = corrupt(X, "brightness", random_state=0).mean(axis=(1, 2, 3)) > X.mean()
        assert 0 < brighter.sum() < 12
        steeper = corrupt(X, "contrast", random_state=0).std(axis=(1, 2, 3)) > X[0].std()
        assert 0 < steeper.sum() < 12
        lighter = corrupt(X, "gamma", random_state=0).mean(axis=(1, 2, 3)) > X.mean()
        assert 0 < lighter.sum() < 12

    def test_contrast_keeps_the_mean_and_gamma_the_extremes(self, scene):
        mild = scene // 3 + 80
        contrast = corrupt(mild, "contrast", random_state=0)
        np.testing.assert_allclose(contrast.mean(axis=(1, 2)), mild.mean(axis=(1, 2)), atol=1)
        X = np.zeros((4, 8, 8), np.uint8)
        X[:, 4:] = 255
        np.testing.assert_array_equal(corrupt(X, "gamma", random_state=0), X)

    def test_shift_moves_and_rotation_turns_without_black_margins(self):
        X = np.full((8, 30, 30), 90, np.uint8)
        X[:, 10:20, 10:20] = 200
        for kind in ("shift", "rotation"):
            corrupted = corrupt(X, kind, random_state=0)
            assert corrupted.min() >= 89
            assert np.abs((corrupted > 145).sum(axis=(1, 2)) - 100).max() <= 6
        rows = np.arange(30)
        moved = corrupt(X, "shift", random_state=0) - 90.0
        centre = np.stack(
            [(moved.sum(axis=axis) * rows).sum(axis=1) / moved.sum(axis=(1, 2)) for axis in (2, 1)]
        )
        distance = np.hypot(*(centre - 14.5)) / 30
        assert (distance > 0.14 * 2 / 3 - 0.01).all()
        assert (distance < 0.14 + 0.01).all()
        assert np.ptp(np.arctan2(*(centre - 14.5))) > 2

    def test_motion_smears_along_one_direction(self):
        X = np.zeros((12, 41, 41))
        X[:, 20, 20] = 1
        smeared = corrupt(X, "motion", 4, random_state=0)
        # Bilinear interpolation loses nothing.
        np.testing.assert_allclose(smeared.sum(axis=(1, 2)), 1, rtol=1e-4)
        rows, columns = np.mgrid[-20:21, -20:21]
        lengths, directions = [], []
        for image in smeared:
            moments = [(image * a).sum() for a in (rows**2, rows * columns, columns**2)]
            (_, along), axes = np.linalg.eigh([moments[:2], moments[1:]])
            across = moments[0] + moments[2] - along
            assert along > 4 * across
            # A uniform line of length l has the variance l² / 12; a pixel is wide itself.
            lengths.append(np.sqrt(12 * along) / 41)
            directions.append(np.arctan2(*axes[:, 1]) % np.pi)
        assert min(lengths) > 0.21 * 2 / 3 * 0.9
        assert max(lengths) < 0.21 * 1.2
        assert np.ptp(directions) > 1.5

    def test_scale_goes_both_ways_about_the_centre(self):
        X = np.full((12, 60, 60), 90, np.uint8)
        X[:, 20:40, 20:40] = 200
        area = (corrupt(X, "scale", 3, random_state=0) > 145).sum(axis=(1, 2)) / 400
        doublings = np.abs(np.log2(area)) / 2
        assert 0 < (area > 1).sum() < 12
        assert doublings.min() > 0.32 * 2 / 3 - 0.08
        assert doublings.max() < 0.32 + 0.08
        rows = np.arange(60)
        scaled = corrupt(X, "scale", 5, random_state=0) - 90.0
        assert scaled.min() >= -1
        centre = (scaled.sum(axis=2) * rows).sum(axis=1) / scaled.sum(axis=(1, 2))
        np.testing.assert_allclose(centre, 29.5, atol=0.1)

    def test_jpeg_is_what_a_file_of_that_quality_holds(self):
        from io import BytesIO

        from PIL import Image

        rng = np.random.default_rng(0)
        X = np.clip(rng.normal(128, 40, (1, 28, 28)), 0, 255).astype(np.uint8)
        (image,) = corrupt(X, "jpeg", 5, random_state=0)
        distances = []
        for quality in range(1, 40):
            file = BytesIO()
            Image.fromarray(X[0]).save(file, "jpeg", quality=quality)
            distances.append(np.abs(np.asarray(Image.open(file)) - image.astype(float)).mean())
        # Coarseness 20 for each of 28 pixels, and two thirds of that at the mildest.
        assert 5000 / 560 - 1 < 1 + np.argmin(distances) < 5000 / 373 + 1
        assert min(distances) < 0.5

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

    def test_pixelation_shifts_nothing(self):
        X = np.zeros((6, 27, 27))
        X[:, 9:18, 9:18] = 1
        coarse = corrupt(X, "pixelation", 1, random_state=0)
        for axis in (1, 2):
            np.testing.assert_allclose(coarse, np.flip(coarse, axis), atol=1e-5)


class TestCorruptArguments:
    def test_unknown_kind_names_the_known(self, scene):
        with pytest.raises(ValueError, match=r"'fog'; known: noise, blur, .*occlusion"):
            corrupt(scene, "fog")

    def test_severity_is_one_to_five(self, scene):
        for severity in (0, 6, None):
            with pytest.raises(ValueError, match="severity must be an int from 1 to 5"):
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

    @staticmethod
    def moments(images):
        """Centre, size and angle of a bright bar, relative to the side."""
        rows, columns = np.mgrid[0:61, 0:61] / 61
        weight = images / images.sum(axis=(1, 2), keepdims=True)
        centre = np.stack([(weight * a).sum(axis=(1, 2)) for a in (rows, columns)], axis=1)
        r, c = (a - m[:, None, None] for a, m in zip((rows, columns), centre.T, strict=True))
        spread = [(weight * a).sum(axis=(1, 2)) for a in (r * r, r * c, c * c)]
        angle = np.degrees(np.arctan2(2 * spread[1], spread[2] - spread[0]) / 2)
        return centre - 30 / 61, np.sqrt(spread[0] + spread[2]), angle

    @pytest.fixture
    def bar(self):
        X = np.zeros((60, 61, 61))
        X[:, 27:34, 18:43] = 1
        return X

    def test_each_movement_keeps_to_its_bounds_and_fills_them(self, bar):
        none = {"flip": False, "degrees": 0, "scale": 0, "shift": 0}
        size = self.moments(bar)[1][0]
        shifts, sizes, angles = self.moments(augment(bar, **none | {"shift": 0.1}, random_state=0))
        assert 0.08 < np.abs(shifts).max() < 0.102
        assert shifts.min() < -0.08
        assert shifts.std(axis=0).min() > 0.045
        np.testing.assert_allclose(sizes, size, rtol=0.02)
        np.testing.assert_allclose(angles, 0, atol=0.1)
        shifts, sizes, angles = self.moments(augment(bar, **none | {"scale": 0.1}, random_state=0))
        assert 0.895 < (sizes / size).min() < 0.93
        assert 1.07 < (sizes / size).max() < 1.105
        np.testing.assert_allclose(shifts, 0, atol=0.002)
        shifts, sizes, angles = self.moments(augment(bar, **none | {"degrees": 15}, random_state=0))
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
