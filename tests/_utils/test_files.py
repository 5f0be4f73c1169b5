"""Files that are whole or not there."""

import os
import sys

import pytest

from tsynd_sk._utils._files import write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half of it")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_contents_are_safe_before_the_name_is(tmp_path, monkeypatch):
    path, synchronised = tmp_path / "file", []
    monkeypatch.setattr(os, "fsync", lambda _: synchronised.append(path.exists()))
    write_atomically(str(path), lambda file: file.write(b"new"))
    # Windows opens no folders.
    assert synchronised == ([False] if sys.platform == "win32" else [False, True])


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / "missing" / "file"
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(path, lambda file: file.write(b"new"))
    assert caught.value.filename == str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="its permissions and links are others")
def test_permissions_and_links_are_those_of_any_file(tmp_path):
    target, link, ordinary = tmp_path / "target", tmp_path / "link", tmp_path / "ordinary"
    link.symlink_to(target)
    ordinary.touch()
    write_atomically(link, lambda file: file.write(b"new"))
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode == ordinary.stat().st_mode
