"""What folders mean: classes or splits, links, and what is left out."""

import os

import pytest
from helpers.image_files import grey, loaded, silently_loaded

from tsynd_sk.datasets import load_image_folder


def make(folder, *names):
    """Write grey images, no two alike."""
    for k, name in enumerate(names):
        grey(folder / name, k)
    return folder


class TestClasses:
    def test_classes_and_files_come_sorted_from_any_depth(self, tmp_path):
        names = ["b/black.png", "a/patient 2/left/Z.PNG", "a/black.png", "a/aa.bmp"]
        data = silently_loaded(str(make(tmp_path, *names)))
        assert data.class_names == ["a", "b"]
        assert data.files == ["a/aa.bmp", "a/black.png", "a/patient 2/left/Z.PNG", "b/black.png"]
        assert data.X[:, 0, 0].tolist() == [3, 2, 1, 0]
        assert data.y.tolist() == [0, 0, 0, 1]
        assert (data.X.dtype, data.y.dtype) == ("uint8", "int64")
        assert (data.split, data.splits, data.groups, data.left_out) == (None, [], None, {})

    def test_all_that_is_left_out_is_counted_by_reason_in_one_warning(self, tmp_path):
        make(tmp_path, "a/1.png", "b/2.png", "loose.png", "b/1_mask.png")
        for name in ("a/notes.txt", "a/._1.png", "a/Thumbs.db", "__MACOSX/x.png", ".git/x.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"no image")
        (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
        data, [message] = loaded(tmp_path, exclude="*_mask.png")
        assert data.files == ["a/1.png", "b/2.png"]
        for part in (
            "hidden files and those of the system: 4 (.git, __MACOSX, a/._1.png, ...)",
            "files that are no images by their name: 1 (a/notes.txt)",
            "broken links and what is no file: 1 (a/gone.png)",
            "files outside of the classes' folders: 1 (loose.png)",
            "excluded by name: 1 (b/1_mask.png)",
        ):
            assert part in message
        assert sum(map(len, data.left_out.values())) == 8

    @pytest.mark.parametrize(
        "exclude", ["*_mask.png", ["x/*", "*_mask*"], "[ab]/?_mask.png", ["masks", "*mask.png"]]
    )
    def test_what_is_excluded_on_purpose_is_no_reason_to_warn(self, tmp_path, exclude):
        make(tmp_path, "a/1.png", "a/1_mask.png", "b/2.png")
        data = silently_loaded(tmp_path, exclude=exclude)
        assert data.files == ["a/1.png", "b/2.png"]
        assert data.left_out == {"excluded by name": ["a/1_mask.png"]}
        assert data.notes[-1] == "left out: excluded by name: 1 (a/1_mask.png)"

    def test_names_that_look_like_masks_are_a_hint(self, tmp_path):
        make(tmp_path, "a/1.png", "a/1_mask.png", "a/1_Mask_1.png", "b/2.png", "b/damask.png")
        data = silently_loaded(tmp_path)
        assert len(data.files) == 5
        assert "2 images, such as a/1_Mask_1.png, look like masks" in data.notes[-1]

    def test_names_in_another_encoding_can_be_printed(self, tmp_path):
        make(tmp_path, "a/1.png", "b/2.png")
        try:
            (tmp_path / "b" / "2.png").rename(tmp_path / "b" / os.fsdecode(b"M\xfcller.png"))
        except OSError:
            pytest.skip("the file system has UTF-8 names only")
        data = silently_loaded(tmp_path)
        assert data.files == ["a/1.png", "b/M\\udcfcller.png"]
        assert data.X[1].max() == 1

    def test_an_excluded_folder_is_no_class(self, tmp_path):
        make(tmp_path, "a/1.png", "b/2.png", "masks/1.png", "masks/2.png")
        assert silently_loaded(tmp_path, exclude=["masks"]).class_names == ["a", "b"]

    def test_class_without_readable_image_is_named(self, tmp_path):
        make(tmp_path, "a/1.png", "b/2.png")
        (tmp_path / "c").mkdir()
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "x.png").touch()
        with pytest.raises(ValueError, match=r"No image .* for \['c', 'd'\].*zero bytes: 1 \(d/x"):
            load_image_folder(tmp_path, on_error="skip")

    def test_missing_folders_and_files_are_refused(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            load_image_folder(tmp_path / "absent")
        with pytest.raises(NotADirectoryError):
            load_image_folder(grey(tmp_path / "x.png"))

    def test_one_class_is_too_few(self, tmp_path):
        make(tmp_path, "a/1.png")
        with pytest.raises(ValueError, match=r"each of 2 or more classes, found \['a'\]"):
            load_image_folder(tmp_path)

    def test_a_set_one_level_down_is_pointed_at(self, tmp_path):
        make(tmp_path, "brains/no/1.png", "brains/yes/2.png")
        with pytest.raises(ValueError, match=r"found \['brains'\]. Did you mean .*brains"):
            load_image_folder(tmp_path)

    def test_a_second_copy_one_level_down_is_refused(self, tmp_path):
        make(tmp_path, "no/1.png", "yes/2.png", "brains/no/1.png", "brains/yes/2.png")
        with pytest.raises(ValueError, match=r"'brains' holds .* second copy .*exclude='brains'"):
            load_image_folder(tmp_path)
        assert silently_loaded(tmp_path, exclude="brains").files == ["no/1.png", "yes/2.png"]

    def test_classes_may_have_subfolders_of_the_same_names(self, tmp_path):
        make(tmp_path, "ill/left/1.png", "ill/right/1.png", "well/left/1.png", "well/right/1.png")
        assert silently_loaded(tmp_path).class_names == ["ill", "well"]

    def test_a_class_may_be_called_train(self, tmp_path):
        make(tmp_path, "bus/1.png", "car/2.png", "train/3.png")
        data = silently_loaded(tmp_path)
        assert (data.class_names, data.splits) == (["bus", "car", "train"], [])


class TestSplits:
    @pytest.mark.parametrize(
        ("train", "val", "test"),
        [
            ("train", "val", "test"),
            ("Training", "valid", "Testing"),
            ("TRAIN", "Validation", "TEST"),
            ("training", "dev", "testing"),
        ],
    )
    def test_are_known_by_their_common_names(self, tmp_path, train, val, test):
        folders = [f"{split}/{name}" for split in (train, val, test) for name in ("ill", "well")]
        make(tmp_path, *(f"{folder}/x.png" for folder in folders), f"{train}/well/y.png")
        data = silently_loaded(tmp_path)
        assert data.splits == ["train", "val", "test"]
        assert data.split.tolist() == ["train"] * 3 + ["val"] * 2 + ["test"] * 2
        assert data.class_names == ["ill", "well"]
        assert data.y.tolist() == [0, 1, 1, 0, 1, 0, 1]
        assert data.X[:, 0, 0].tolist() == [0, 1, 6, 2, 3, 4, 5]
        one = silently_loaded(tmp_path, split="val")
        assert one.files == [f"{val}/ill/x.png", f"{val}/well/x.png"]
        assert len(silently_loaded(tmp_path, split=["train", "val"]).X) == 5

    def test_codes_are_shared_where_one_lacks_a_class(self, tmp_path):
        make(tmp_path, "train/b/1.png", "train/c/2.png", "test/a/3.png", "test/c/4.png")
        data = silently_loaded(tmp_path)
        assert data.class_names == ["a", "b", "c"]
        assert data.y.tolist() == [1, 2, 0, 2]

    def test_size_and_scale_are_those_of_the_whole_folder(self, tmp_path):
        make(tmp_path, "train/a/1.png", "train/b/2.png", "test/a/3.png")
        grey(tmp_path / "test" / "b" / "4.png", 9, (6, 4))
        assert silently_loaded(tmp_path, split="train").reading == silently_loaded(tmp_path).reading

    @pytest.mark.parametrize(
        "names",
        [
            ["train/a/1", "train/b/2", "test/3"],
            ["train/1", "test/2"],
            ["train/a/1", "train/b/2", "more/a/3"],
            ["training_set/a/1", "test_set/a/2"],
            ["Train Images/1", "Test Images/2"],
            ["train/a/1", "val/a/2", "dev/a/3"],
            ["val/a/1", "test/b/2"],
        ],
    )
    def test_folders_of_doubtful_meaning_are_named(self, tmp_path, names):
        make(tmp_path, *(f"{name}.png" for name in names))
        tops = ", ".join(map(repr, sorted({name.split("/")[0] for name in names})))
        with pytest.raises(ValueError, match=f"unclear whether {tops} are splits or classes"):
            load_image_folder(tmp_path)

    @pytest.mark.parametrize(
        ("split", "message"),
        [
            ("test", r"split must be one of .* has, \['train'\]; got 'test'"),
            (["val"], r"\['train'\]; got \['val'\]"),
            ("dev", r"\['train'\]; got 'dev'"),
            (["train", "dev"], r"\['train'\]; got \['train', 'dev'\]"),
        ],
    )
    def test_a_split_that_is_not_there_is_named(self, tmp_path, split, message):
        make(tmp_path, "train/a/1.png", "train/b/2.png")
        with pytest.raises(ValueError, match=message):
            load_image_folder(tmp_path, split=split)


class TestLinks:
    def test_are_followed(self, tmp_path):
        make(tmp_path / "store", "x/1.png", "y/2.png")
        folder = tmp_path / "set"
        (folder / "b").mkdir(parents=True)
        (folder / "a").symlink_to(tmp_path / "store" / "x")
        (folder / "b" / "two.png").symlink_to(tmp_path / "store" / "y" / "2.png")
        data = silently_loaded(folder)
        assert data.files == ["a/1.png", "b/two.png"]
        assert data.X[:, 0, 0].tolist() == [0, 1]

    @pytest.mark.parametrize("to", [".", "..", "../.."])
    def test_that_lead_back_are_refused(self, tmp_path, to):
        make(tmp_path, "a/in/1.png", "b/2.png")
        (tmp_path / "a" / "in" / "again").symlink_to(to)
        with pytest.raises(ValueError, match=r"a/in/again is a link to a folder that it lies in"):
            load_image_folder(tmp_path)
        assert len(silently_loaded(tmp_path, exclude="again").X) == 2

    def test_that_lead_to_each_other_are_broken(self, tmp_path):
        make(tmp_path, "a/1.png", "b/2.png")
        (tmp_path / "a" / "x").symlink_to(tmp_path / "a" / "y")
        (tmp_path / "a" / "y").symlink_to(tmp_path / "a" / "x")
        data, [message] = loaded(tmp_path)
        assert "broken links and what is no file: 2" in message
        assert len(data.X) == 2
