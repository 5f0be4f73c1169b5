"""What a bug report says of versions."""

import re
import tomllib
from pathlib import Path

import torch

import tsynd_sk
from tsynd_sk._utils._versions import OPTIONAL, REQUIRED, installed


def test_versions_of_all_that_a_result_depends_on_are_printed(capsys):
    tsynd_sk.show_versions()
    lines = dict(
        line.strip().split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": " in line
    )
    assert lines["tsynd_sk"] == tsynd_sk.__version__
    assert (
        lines["torch"] == torch.__version__.partition("+")[0] or lines["torch"] == torch.__version__
    )
    assert set(REQUIRED + OPTIONAL) <= set(lines)
    assert {"python", "executable", "machine", "threads of torch", "accelerators"} <= set(lines)


def test_what_is_not_installed_has_no_version():
    assert installed("no-such-package") is None


def test_packages_are_those_that_the_project_names():
    project = tomllib.loads((Path(tsynd_sk.__file__).parents[1] / "pyproject.toml").read_text())[
        "project"
    ]

    def names(requirements):
        return {re.match(r"[\w-]+", each)[0] for each in requirements}

    extras = project["optional-dependencies"]
    assert set(REQUIRED) == names(project["dependencies"])
    mine = [extras[name] for name in ("plot", "dicom", "networks", "robustness", "benchmark")]
    assert set(OPTIONAL) == set().union(*map(names, mine))
