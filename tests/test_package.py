"""What importing the package costs."""

import subprocess
import sys

import tsynd_sk


def test_import_loads_nothing_that_is_not_needed():
    code = (
        "import sys, torch, sklearn, skorch; before = set(sys.modules); import tsynd_sk;"
        "late = {'medmnist', 'torchvision', 'matplotlib', 'art', 'skimage', 'PIL'};"
        "late |= {'pandas'} - before;"
        "print(sorted(late & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_is_told():
    assert tsynd_sk.__version__
