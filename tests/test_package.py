"""What importing the package costs, and what its lazy door offers."""

import subprocess
import sys
from pathlib import Path

import pytest

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
    late = {"medmnist", "torchvision", "matplotlib", "art", "skimage", "PIL"}
    # scikit-learn imports pandas where it is installed.
    before = "import torch, sklearn, skorch; before = set(sys.modules)"
    assert not loaded(f"{before}; from tsynd_sk import TargetedSynthesizer") & (late | {"pandas"})


def test_names_of_the_help_are_those_of_the_library():
    assert tuple(ARMS) == _names.ARM_NAMES
    assert set(_names.DEFAULT_ARMS) <= set(ARMS)
    assert tuple(evaluation.ATTACKS) == _names.ATTACKS


def test_lazy_names_are_there():
    from tsynd_sk import AugmentedClassifier, TargetedSynthesis, TargetedSynthesizer, synthesis

    assert TargetedSynthesizer is synthesis.TargetedSynthesizer
    assert AugmentedClassifier is synthesis.AugmentedClassifier
    assert TargetedSynthesis is synthesis.TargetedSynthesis
    assert set(tsynd_sk.__all__) <= set(dir(tsynd_sk))
    assert tsynd_sk.__version__


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="has no attribute 'Synthesiser'"):
        _ = tsynd_sk.Synthesiser
