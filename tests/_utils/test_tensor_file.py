"""Damaged, hostile and foreign files are refused, and none is left half-written."""

import copy
import pickle
import random
from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers.saved_files import (
    TABLE,
    answers,
    assert_same,
    digits,
    image_classifier,
    table_synthesizer,
)

from tsynd_sk._utils import _files, _tensor_file


def rewritten(path, change):
    """Change what a file holds, and give it the checksum of what it holds then."""
    contents = _tensor_file.read_tensors(path)
    body, tensors = copy.deepcopy(contents.body), dict(contents.tensors)
    change(body, tensors)
    _tensor_file.write_tensors(path, contents.kind, tensors, body)


class TestDamage:
    """Whatever happens to a file, it is refused by name, or it says what it said."""

    def attempt(self, data, path, known):
        path.write_bytes(data)
        estimator = table_synthesizer()
        before = dict(vars(estimator))
        try:
            estimator.load_params(path)
        except ValueError as error:
            assert str(error).startswith(f"cannot load {str(path)!r}: it ")  # noqa: PT017
            assert vars(estimator) == before
            return 0
        assert (estimator.uncertainty(TABLE[:9]) == known).all()
        return 1

    def test_truncated_at_any_place(self, table, path):
        table.save_params(path)
        data, known = path.read_bytes(), table.uncertainty(TABLE[:9])
        header = 8 + int.from_bytes(data[:8], "little")
        drawn = random.Random(0).sample(range(len(data)), 100)
        for length in {*range(20), header - 1, header, header + 1, len(data) - 1, *drawn}:
            assert not self.attempt(data[:length], path, known)
        assert not self.attempt(data + b"\0", path, known)
        assert self.attempt(data, path, known)

    def test_a_bit_flipped_at_any_place(self, table, path):
        table.save_params(path)
        data, known = path.read_bytes(), table.uncertainty(TABLE[:9])
        rng = random.Random(0)
        header = 8 + int.from_bytes(data[:8], "little")
        places = [*range(8), *rng.sample(range(header), 200), *rng.sample(range(len(data)), 200)]
        loaded = 0
        for place in places:
            damaged = bytearray(data)
            damaged[place] ^= 1 << rng.randrange(8)
            loaded += self.attempt(bytes(damaged), path, known)
        # In the padding of the header, if at all.
        assert loaded <= 5

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "not the whole of one: it has 0 bytes"),
            (b"\x10\0\0", "not the whole of one: it has 3 bytes"),
            (pickle.dumps({"a": 1}), "it is no safetensors file"),
            (b"PK\x03\x04" + b"\0" * 100, "it is no JSON|no safetensors file|no JSON"),
            (b"\xff" * 100, "its header would have 18446744073709551615"),
            (b"\x02\0\0\0\0\0\0\0{}", "none that save_params of tsynd_sk has written"),
            (b"\x02\0\0\0\0\0\0\0\xff\xfe", "a part of it is no JSON"),
            (
                (100_000).to_bytes(8, "little") + b"[" * 100_000,
                "a part of it is no JSON",
            ),
            (safetensors.torch.save({"a": torch.ones(3)}), "none that save_params"),
            (safetensors.torch.save({"a": torch.ones(3)}, {"format": "pt"}), "none that save_par"),
        ],
        ids=[
            "empty",
            "three bytes",
            "pickle",
            "zip, as of torch.save",
            "absurd length",
            "no metadata",
            "no text",
            "deep",
            "another's",
            "another's with metadata",
        ],
    )
    def test_other_files(self, data, message, path):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message) as caught:
            table_synthesizer().load_params(path)
        assert str(path) in str(caught.value)

    def test_missing_files_and_folders_are_errors_of_the_system(self, table, tmp_path):
        with pytest.raises(FileNotFoundError):
            table_synthesizer().load_params(tmp_path / "none")
        with pytest.raises(IsADirectoryError):
            table_synthesizer().load_params(tmp_path)
        with pytest.raises(FileNotFoundError) as caught:
            table.save_params(tmp_path / "none" / "file")
        assert caught.value.filename == str(tmp_path / "none" / "file")

    @pytest.mark.parametrize("version", ["2", "10", "9" * 5000])
    def test_a_later_version_says_to_upgrade(self, version, table, path):
        table.save_params(path)
        tensors = safetensors.torch.load_file(path)
        with safetensors.safe_open(path, "pt") as file:
            metadata = {**file.metadata(), "format_version": version, "library_version": "99.1"}
        safetensors.torch.save_file(tensors, path, metadata)
        with pytest.raises(ValueError, match=r"written by tsynd_sk 99\.1.* upgrade tsynd_sk"):
            table_synthesizer().load_params(path)

    def test_exchanged_tensors_are_noticed(self, table, path):
        table.save_params(path)
        tensors = safetensors.torch.load_file(path)
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata()
        one, two = "classifier0.module.mean", "classifier0.module.scale"
        tensors[one], tensors[two] = tensors[two], tensors[one]
        safetensors.torch.save_file(tensors, path, metadata)
        with pytest.raises(ValueError, match="do not have the checksum"):
            table_synthesizer().load_params(path)

    def test_hostile_values_of_the_right_checksum(self, table, path, monkeypatch):
        """Every value of the JSON against every kind of nonsense: refused, or harmless."""
        table.save_params(path)
        # Not one of these hundreds of files has to outlive a power failure.
        monkeypatch.setattr(_files.os, "fsync", lambda descriptor: None)
        contents = _tensor_file.read_tensors(path)

        def places(value, place=()):
            if place:
                yield place
            items = value.items() if isinstance(value, dict) else ()
            items = enumerate(value[:1]) if isinstance(value, list) else items
            for key, item in items:
                yield from places(item, (*place, key))

        nonsense = [None, True, -1, 10**30, "x", [[]], {}, 1e308, "missing"]
        loaded = []
        for *parents, last in places(contents.body):
            for value in nonsense:
                body = copy.deepcopy(contents.body)
                holder = body
                for key in parents:
                    holder = holder[key]
                if value == "missing":
                    del holder[last]
                else:
                    holder[last] = value
                _tensor_file.write_tensors(path, contents.kind, contents.tensors, body)
                try:
                    table_synthesizer().load_params(path)
                except ValueError as error:
                    assert str(path) in str(error)  # noqa: PT017
                else:
                    loaded.append((*parents, last))
        # What is of the right type may say anything: other labels, other seeds.
        assert {place[0] for place in loaded} <= {
            "classes",
            "images",
            "members",
            "classifiers",
            "autoencoder",
        }
        assert len(loaded) < 60

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("latent_scale", None),
            ("latent_scale", torch.full((1, 3), float("nan"))),
            ("lowest", torch.full((10,), 9e9)),
            ("highest", torch.zeros(3)),
            ("posterior0.weight", torch.zeros(10, 4)),
            ("posterior0.feature_eigenvalues", torch.zeros(0)),
            ("posterior0.bias", None),
            ("image_classes", torch.full((80,), 10)),
            ("image_classes", torch.full((80,), -1)),
            ("image_classes", None),
            ("images", torch.zeros(80, 9)),
            ("images", torch.zeros(80, 10, dtype=torch.float64)),
            ("images", torch.zeros(0, 10)),
            ("images", torch.full((80, 10), float("nan"))),
            ("classifier0.module.mean", None),
            ("classifier0_history", torch.zeros(3)),
            ("classifier0_history", torch.zeros(3, dtype=torch.uint8)),
            ("classifier0_history", torch.tensor(list(b"[1]"), dtype=torch.uint8)),
            ("more", torch.zeros(3)),
        ],
    )
    def test_hostile_tensors_of_the_right_checksum(self, name, value, table, path):
        table.save_params(path, with_images=True)

        def change(body, tensors):
            if value is None:
                del tensors[name]
            else:
                tensors[name] = value.clone()

        rewritten(path, change)
        with pytest.raises(ValueError, match="cannot load"):
            table_synthesizer().load_params(path)

    def test_labels_beyond_all_memory_take_none(self, table, path):
        table.save_params(path)

        def change(body, tensors):
            body["classes"] = {"dtype": "<U900000", "values": [str(i) for i in range(10_000)]}

        rewritten(path, change)
        with pytest.raises(ValueError, match="10000 labels of dtype <U900000"):
            table_synthesizer().load_params(path)

    def test_sizes_beyond_all_memory_take_none(self, table, path):
        table.save_params(path)

        def change(body, tensors):
            body["classifiers"][0]["sizes"]["n_classes"] = 10**13

        rewritten(path, change)
        with pytest.raises(ValueError, match=r"it has shape \(10, 4\) in the file, but \(1000000"):
            table_synthesizer().load_params(path)


class TestFiles:
    def test_nothing_is_unpickled(self, images, path, monkeypatch):
        def forbidden(*args, **kwargs):
            raise AssertionError("a pickle is read")

        images.save_params(path, with_images=True)
        for module, name in [(pickle, "load"), (pickle, "loads"), (torch, "load")]:
            monkeypatch.setattr(module, name, forbidden)
        monkeypatch.setattr(pickle, "Unpickler", forbidden)
        image_classifier().load_params(path)

    def test_any_safetensors_reader_reads_it(self, images, path):
        images.save_params(path)
        weight = safetensors.torch.load_file(path)["classifier0.module.features.0.weight"]
        assert torch.equal(weight, images.estimator_.module_.features[0].weight)

    def test_a_full_disk_leaves_the_old_file(self, images, path, monkeypatch):
        images.save_params(path)
        before = path.read_bytes()

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(_files.os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device"):
            images.save_params(path, with_images=True)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_a_crash_before_the_end_leaves_the_old_file(self, images, path, monkeypatch):
        images.save_params(path)
        before = path.read_bytes()

        def crash(*args):
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            images.save_params(path, with_images=True)
        assert path.read_bytes() == before

    def test_saving_changes_no_answers(self, images, path):
        rows, labels = digits()
        known = answers(images, rows[:5], labels[:5])
        images.save_params(path)
        assert_same(known, answers(images, rows[:5], labels[:5]))
