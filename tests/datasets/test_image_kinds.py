"""Files of every kind: the values that are read, and what is said."""

import io

import numpy as np
import pytest
from helpers.image_files import grey, loaded, noise, row_of, silently_loaded, tiff
from PIL import Image

from tsynd_sk.datasets import load_image_folder


@pytest.fixture
def folder(tmp_path):
    """Two classes with one dark 2 x 2 image each, to which tests add a file `b/x.*`."""
    grey(tmp_path / "a" / "dark.png", 0)
    grey(tmp_path / "b" / "dark.png", 1)
    return tmp_path


def added(folder, image, suffix, **options):
    image.save(folder / "b" / f"x.{suffix}", **options)
    return row_of(silently_loaded(folder), f"b/x.{suffix}")


LEVELS = np.array([[0, 50], [100, 255]], np.uint8)


class TestEightBits:
    @pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "jp2", "pgm"])
    def test_grey_values_are_kept(self, folder, suffix):
        levels = np.kron(LEVELS, np.ones((8, 8), np.uint8)) if suffix == "jp2" else LEVELS
        Image.fromarray(levels).save(folder / "b" / f"x.{suffix}")
        if suffix == "jp2":
            for name in "ab":
                grey(folder / name / "dark.png", ord(name), (16, 16))
        data = silently_loaded(folder)
        assert data.X.ndim == 3
        np.testing.assert_array_equal(row_of(data, f"b/x.{suffix}"), levels)

    @pytest.mark.parametrize("suffix", ["png", "bmp"])
    def test_one_bit_is_black_and_white(self, folder, suffix):
        image = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
        assert added(folder, image, suffix).tolist() == [[0, 255], [255, 0]]

    @pytest.mark.parametrize(
        ("mode", "colour", "suffix", "options"),
        [
            ("RGB", (200, 100, 50), "png", {}),
            ("RGB", (200, 100, 50), "bmp", {}),
            ("RGB", (200, 100, 50), "ppm", {}),
            ("RGB", (200, 100, 50), "webp", {"lossless": True}),
            ("RGBA", (200, 100, 50, 255), "png", {}),
            ("CMYK", (55, 155, 205, 0), "tiff", {}),
        ],
    )
    def test_colours_become_rgb_and_take_grey_files_along(
        self, folder, mode, colour, suffix, options
    ):
        image = added(folder, Image.new(mode, (2, 2), colour), suffix, **options)
        assert image[0, 0].tolist() == [200, 100, 50]
        data = load_image_folder(folder)
        assert data.X.shape == (3, 2, 2, 3)
        assert data.X[1].tolist() == [[[1] * 3] * 2] * 2
        assert "2 grey files among them become colour" in data.notes[0]

    def test_a_palette_is_colour_if_it_has_any(self, folder):
        image = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8), "P")
        image.putpalette([0, 0, 0, 200, 100, 50])
        assert added(folder, image, "png")[1, 1].tolist() == [200, 100, 50]
        image.putpalette([9, 9, 9, 70, 70, 70])
        assert added(folder, image, "png").tolist() == [[9, 70], [70, 70]]

    def test_grayscale_and_colour_can_be_asked_for(self, folder):
        assert silently_loaded(folder, grayscale=False).X.shape == (2, 2, 2, 3)
        Image.new("RGB", (2, 2), (200, 100, 50)).save(folder / "b" / "x.png")
        image = row_of(silently_loaded(folder, grayscale=True), "b/x.png")
        assert image.tolist() == [[round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)] * 2] * 2

    @pytest.mark.parametrize("suffix", ["png", "tiff"])
    def test_transparent_pixels_lie_over_black(self, folder, suffix):
        assert added(folder, Image.new("RGBA", (2, 2), (200, 100, 50, 0)), suffix).max() == 0
        image = added(folder, Image.new("RGBA", (2, 2), (200, 100, 50, 51)), suffix)
        assert image[0, 0].tolist() == [40, 20, 10]

    def test_a_transparent_palette_entry_lies_over_black(self, folder):
        image = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8), "P")
        image.putpalette([200, 200, 200, 60, 70, 80])
        image = added(folder, image, "png", transparency=0)
        assert image[0].tolist() == [[0, 0, 0], [60, 70, 80]]

    @pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
    def test_exif_orientation_is_respected(self, folder, suffix):
        values = np.kron(np.arange(6).reshape(2, 3) * 40, np.ones((8, 8))).astype(np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6  # to be shown turned clockwise by a quarter
        for name, value in (("a", 0), ("b", 1)):
            grey(folder / name / "dark.png", value, (16, 24))
        image = added(folder, Image.fromarray(values), suffix, exif=exif)
        assert np.abs(image.astype(int) - np.rot90(values, -1)).max() <= (suffix == "jpg") * 3

    def test_a_window_holds_for_eight_bits_if_asked_for(self, folder):
        Image.fromarray(LEVELS).save(folder / "b" / "x.png")
        data = silently_loaded(folder, window=(50, 150))
        assert row_of(data, "b/x.png").tolist() == [[0, 0], [128, 255]]
        assert data.reading.window_8bit == (50, 150)


RAMP16 = np.array([[0, 256], [32768, 65535]])
RAMP8 = [[0, 1], [128, 255]]


def deep_set(folder, *images, **options):
    """Write images as the only ones, the first in class a, the others in class b."""
    for k, values in enumerate(images):
        tiff(folder / ("b" if k else "a") / f"{k}.tif", values, **options)
    return folder


class TestManyBits:
    @pytest.mark.parametrize(
        ("values", "suffix"),
        [
            (RAMP16.astype(np.uint16), "png"),
            (RAMP16.astype(np.uint16), "tiff"),
            (RAMP16.astype(np.uint16), "pgm"),
            (np.array([[0, 0.2], [0.5, 1]], np.float32), "tiff"),
            (np.array([[0, 20], [99.6, 255]], np.float32), "tiff"),
        ],
    )
    def test_values_that_use_their_range_keep_it_beside_eight_bits(self, folder, values, suffix):
        expected = {0.2: [[0, 51], [128, 255]], 20: [[0, 20], [100, 255]]}
        image = added(folder, Image.fromarray(values), suffix)
        assert image.tolist() == expected.get(round(float(values[0, 1]), 1), RAMP8)

    @pytest.mark.parametrize(
        ("dtype", "low", "step"),
        [
            (np.uint16, 0, 16),  # 12 bits in 16
            (np.uint16, 32768, 8),  # Hounsfield units with 32768 added
            (np.int16, -1000, 4),
            (np.int32, -70000, 5),
            (np.uint32, 3_000_000_000, 4),
            (np.float32, 0.25, 2**-12),
            (np.float64, -1e9, 2.0),
        ],
    )
    def test_a_small_part_of_the_range_is_stretched_alike_in_all(self, tmp_path, dtype, low, step):
        levels = np.arange(256).reshape(16, 16)
        expected = np.stack([np.clip(levels, 0, 63), np.clip(levels, 64, 255)])
        data, messages = loaded(deep_set(tmp_path, *(low + step * expected).astype(dtype)))
        np.testing.assert_array_equal(data.X, expected)
        assert data.reading.window == (low, low + 255 * step)
        [message] = messages
        assert "stretched" in message
        assert "--window LOW HIGH" in message

    def test_signed_bytes_keep_their_order(self, tmp_path):
        values = np.array([[-128, -1], [0, 127]], np.int8)
        data = silently_loaded(deep_set(tmp_path, values, values.T))
        assert data.X[0].tolist() == [[0, 127], [128, 255]]

    def test_the_window_that_is_asked_for_is_the_scale(self, tmp_path):
        values = np.array([[-1000, -160], [40, 240]], np.int16)
        data = silently_loaded(deep_set(tmp_path, values, values + 1), window=(-160, 240))
        assert data.X[0].tolist() == [[0, 0], [128, 255]]
        assert data.reading.window == (-160, 240)

    @pytest.mark.parametrize("window", [(3, 3), (5, 1), (0, np.nan), 7, ("a", "b")])
    def test_other_windows_are_refused(self, folder, window):
        with pytest.raises(ValueError, match=r"window must be two finite numbers.*-160, 240"):
            load_image_folder(folder, window=window)

    def test_few_files_that_widen_the_range_are_named(self, tmp_path):
        for k in range(40):
            tiff(tmp_path / "ab"[k % 2] / f"{k}.tif", noise(k, high=4096, dtype=np.uint16))
        hot = noise(99, high=4096, dtype=np.uint16)
        hot[0, 0] = 65535
        tiff(tmp_path / "a" / "hot.tif", hot)
        data, [message] = loaded(tmp_path)
        assert data.reading.window == (0, 65535)
        assert "a/hot.tif" in message
        assert "would use [" in message

    def test_eight_bits_beside_a_stretched_range_are_mentioned(self, folder):
        tiff(folder / "b" / "x.tif", np.array([[0, 1000], [2000, 4095]], np.uint16))
        data, [message] = loaded(folder)
        assert "2 files of 8 bits beside them" in message
        assert row_of(data, "b/x.tif")[1, 1] == 255

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
    def test_white_as_zero_is_turned_right(self, tmp_path, dtype):
        values = np.array([[0, 1000], [2000, 4095]])
        values = values // 16 if dtype == np.uint8 else values
        black = tiff(tmp_path / "a" / "black.tif", values.astype(dtype))
        white = tiff(tmp_path / "b" / "white.tif", values.astype(dtype), photometric="miniswhite")
        data, _ = loaded(tmp_path)
        assert black.stat().st_size == white.stat().st_size
        np.testing.assert_array_equal(data.X[1], 255 - data.X[0])
        assert data.X[0, 0, 0] == 0

    def test_white_as_zero_is_turned_right_at_one_bit(self, folder):
        tiff(folder / "b" / "x.tif", np.eye(2, dtype=bool), photometric="miniswhite")
        assert row_of(silently_loaded(folder), "b/x.tif").tolist() == [[0, 255], [255, 0]]

    @pytest.mark.parametrize("planar", ["contig", "separate"])
    def test_sixteen_bit_colours_of_tiff_keep_all_bits(self, tmp_path, planar):
        rgb = noise(0, (6, 7, 3), np.uint16, 4096)
        stored = rgb if planar == "contig" else np.moveaxis(rgb, -1, 0)
        folder = deep_set(tmp_path, stored, stored + 1, photometric="rgb", planarconfig=planar)
        data, _ = loaded(folder)
        low, high = data.reading.window
        np.testing.assert_array_equal(data.X[0], np.rint((rgb - low) * 255 / (high - low)))
        luminance = loaded(folder, grayscale=True)[0].X[0]
        expected = (rgb - low) * 255 / (high - low) @ [0.299, 0.587, 0.114]
        assert np.abs(luminance - expected).max() < 0.51

    def test_sixteen_bit_alpha_lies_over_zero(self, tmp_path):
        rgba = np.full((2, 2, 4), 65535, np.uint16)
        rgba[0, 0, 3], rgba[1] = 0, 0
        data, _ = loaded(deep_set(tmp_path, rgba, rgba // 2, photometric="rgb"))
        assert data.X[0, :, :, 0].tolist() == [[0, 255], [0, 0]]

    def test_sixteen_bit_colours_of_png_lose_bits_and_that_is_said(self, folder):
        # Pillow writes none: IHDR, and rows of big-endian values after a filter byte each.
        import struct
        import zlib

        def chunk(kind, content):
            check = struct.pack(">I", zlib.crc32(kind + content))
            return struct.pack(">I", len(content)) + kind + content + check

        rows = b"".join(b"\0" + np.full((2, 3), 51200 + 9, ">u2").tobytes() for _ in range(2))
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
        png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows))
        (folder / "b" / "x.png").write_bytes(png + chunk(b"IEND", b""))
        data, [message] = loaded(folder)
        assert row_of(data, "b/x.png").tolist() == [[[200] * 3] * 2] * 2
        assert "1 PNG files with 16 bits a colour" in message

    def test_compressed_sixteen_bits_are_read(self, folder):
        file = folder / "b" / "x.tif"
        Image.fromarray(RAMP16.astype(np.uint16)).save(file, compression="tiff_lzw")
        assert row_of(silently_loaded(folder), "b/x.tif").tolist() == RAMP8

    @pytest.mark.parametrize("compression", [None, "tiff_lzw"])
    def test_orientation_of_many_bits(self, folder, compression):
        exif = Image.Exif()
        exif[0x0112] = 6
        image = Image.fromarray(RAMP16.astype(np.uint16))
        image.save(folder / "b" / "x.tif", exif=exif, compression=compression)
        assert row_of(silently_loaded(folder), "b/x.tif").tolist() == np.rot90(RAMP8, -1).tolist()

    def test_resized_in_full_precision(self, tmp_path):
        values = np.repeat(np.arange(16, dtype=np.uint16)[None], 16, axis=0) + 40000
        data, _ = loaded(deep_set(tmp_path, values, values), size=8)
        assert np.unique(data.X[0]).size == 8
        assert (np.diff(data.X[0, 0].astype(int)) > 25).all()


class TestPages:
    @pytest.fixture
    def pages(self, tmp_path):
        stack = np.stack([np.full((4, 4), 10 * k, np.uint8) for k in range(1, 4)])
        tiff(tmp_path / "a" / "eight.tif", stack)
        tiff(tmp_path / "a" / "deep.tif", stack.astype(np.uint16) * 1000)
        frames = [Image.fromarray(page) for page in stack]
        (tmp_path / "b").mkdir()
        frames[0].save(tmp_path / "b" / "film.gif", save_all=True, append_images=frames[1:])
        return tmp_path

    def test_the_first_is_read_and_a_warning_counts(self, pages):
        data, messages = loaded(pages, window=(0, 51000))
        assert data.files == ["a/deep.tif", "a/eight.tif", "b/film.gif"]
        assert [message for message in messages if "further pages of files, which" in message]
        assert 'pages="all"' in messages[0]

    def test_all_are_images_of_one_group(self, pages):
        data, _ = loaded(pages, pages="all", grayscale=True)
        assert data.X.shape == (9, 4, 4)
        assert row_of(data, "b/film.gif").max() == 10
        assert data.X[3:6, 0, 0].tolist() == [10, 20, 30]
        assert (np.diff(data.X[:3, 0, 0].astype(int)) > 0).all()
        assert data.groups.tolist() == data.files
        assert data.grouped_by == "file"


def test_a_file_is_known_by_its_content(folder):
    buffer = io.BytesIO()
    Image.fromarray(LEVELS).save(buffer, "PNG")
    (folder / "b" / "x.jpg").write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(row_of(silently_loaded(folder), "b/x.jpg"), LEVELS)
