"""What importing the package costs, and what its lazy door offers."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import skorch
import torch
from sklearn.base import BaseEstimator

import tsynd_sk
from tsynd_sk import evaluation
from tsynd_sk._utils import _names
from tsynd_sk.comparison import ARMS

HEAVY = {"torch", "sklearn", "skorch", "scipy", "pandas", "matplotlib", "medmnist", "torchvision"}
HEAVY |= {"art", "skimage", "PIL", "tqdm", "joblib"}


def loaded(code):
    """Packages of others that a fresh process has loaded after it has run some code."""
    code = (
        f"import sys; before = set(sys.modules); {code}\nprint('\\n', *set(sys.modules) - before)"
    )
    here = Path(tsynd_sk.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=here
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_import_loads_nothing_heavy():
    packages = loaded("import tsynd_sk")
    assert "tsynd_sk" in packages
    assert not packages & (HEAVY | {"numpy"})


def test_help_loads_nothing_heavy():
    code = "from tsynd_sk.__main__ import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    packages = loaded(code)
    assert {"tsynd_sk", "argparse"} <= packages
    assert not packages & (HEAVY | {"numpy"})


def test_use_loads_nothing_that_is_not_needed():
    late = {"medmnist", "torchvision", "matplotlib", "art", "skimage", "PIL", "tifffile"}
    # scikit-learn imports pandas where it is installed.
    use = "from tsynd_sk import TargetedSynthesizer, evaluation, inspection"
    before = "import torch, sklearn, skorch; before = set(sys.modules)"
    assert not loaded(f"{before}; {use}") & (late | {"pandas"})


def test_names_of_the_help_are_those_of_the_library():
    assert tuple(ARMS) == _names.ARM_NAMES
    assert set(_names.DEFAULT_ARMS) <= set(ARMS)
    assert tuple(evaluation.ATTACKS) == _names.ATTACKS


def test_lazy_names_are_there():
    from tsynd_sk import AugmentedClassifier, TargetedSynthesis, TargetedSynthesizer, synthesis

    assert TargetedSynthesizer is synthesis.TargetedSynthesizer
    assert AugmentedClassifier is synthesis.AugmentedClassifier
    assert TargetedSynthesis is synthesis.TargetedSynthesis
    assert tsynd_sk.show_versions.__name__ == "show_versions"
    assert set(tsynd_sk.__all__) <= set(dir(tsynd_sk))
    assert tsynd_sk.__version__


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="has no attribute 'Synthesiser'"):
        _ = tsynd_sk.Synthesiser


FOLDER = Path(tsynd_sk.__file__).parent
SOURCES = sorted(path.relative_to(FOLDER) for path in FOLDER.rglob("*.py"))


def nodes(path):
    return ast.walk(ast.parse((FOLDER / path).read_text()))


def test_only_one_package_knows_the_inside_of_skorch():
    inside = {n for n in dir(skorch.NeuralNetClassifier) if n[0] == "_" and n[:2] != "__"}
    # What skorch has in common with others, and what it documents for overriding.
    inside -= {*dir(torch.nn.Module()), *dir(BaseEstimator), "_default_callbacks"}
    uses = [
        f"{path}:{node.lineno}: {node.attr}"
        for path in SOURCES
        if path.parts[0] != "_skorch"
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and node.attr in inside
    ]
    assert not uses


def test_no_package_imports_private_names_of_another():
    imports = []
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tsynd_sk"):
                package, *inner = [*node.module.split(".")[1:], ""]
                names = [*inner, *(alias.name for alias in node.names)]
                private = any(name.startswith("_") and name[:2] != "__" for name in names)
                own = package in ("", "_utils", "_skorch", path.parts[0])
                if private and not own:
                    imports.append(f"{path}:{node.lineno}: {node.module}")
    assert not imports


def test_files_are_short_and_the_top_folder_is_small():
    lengths = {str(path): len((FOLDER / path).read_text().splitlines()) for path in SOURCES}
    assert not {path: length for path, length in lengths.items() if length > 400}
    skipped = {"__init__.py", "py.typed", "__pycache__"}
    assert len({path.name for path in FOLDER.iterdir()} - skipped) <= 15


def test_files_that_are_no_code_are_packaged():
    settings = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["tool"]["setuptools"]
    packaged = {
        FOLDER.parent / package.replace(".", "/") / name
        for package, names in settings["package-data"].items()
        for name in names
    }
    others = {path for path in FOLDER.rglob("*.*") if path.suffix not in (".py", ".pyc")}
    assert packaged == others
