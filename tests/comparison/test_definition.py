"""Descriptions of what runs were made with: equal ones for equal results, others for others."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import Tiny, tiny
from helpers.tiny_nets import net, own_net
from safetensors.torch import save_file
from skorch.dataset import ValidSplit
from torch import nn

from tsynd_sk._utils._by_name import object_of
from tsynd_sk.comparison import ARMS, Arm
from tsynd_sk.comparison._results_folder import definition_of, part_defaults

CODE = """
class Darker:
    def __init__(self, by):
        self.by = by

    def __call__(self, image):
        return image * self.by


def make():
    return Darker(0.5)
"""


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


@pytest.mark.parametrize("value", [None, True, 3, 0.5, "resnet18", [1, [2]], {"a": {"b": 1}}])
def test_plain_values_stay_as_they_are(value):
    assert definition_of(value) == value
    assert definition_of((1, 2)) == [1, 2]
    assert definition_of(set("dacb")) == ["a", "b", "c", "d"]
    assert definition_of(np.float32(0.5)) == 0.5


@pytest.mark.parametrize(
    "value",
    [
        tiny,
        nn.ReLU(),
        net(),
        own_net(),
        lambda x: x,
        partial(tiny, 1),
        np.arange(3),
        torch.nn,
        CODE,
    ],
)
def test_all_is_json(value):
    text = json.dumps(definition_of(value))
    assert " at 0x" not in text
    assert json.dumps(definition_of(value)) == text


def test_files_are_known_by_their_contents_alone(code, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "mine.py"
    moved.write_text(CODE)
    first = definition_of(f"{code}:make")
    assert first[0] == "mine.py:make"
    assert definition_of(f"{moved}:make") == first
    moved.write_text(CODE + "\n")
    assert definition_of(f"{moved}:make") != first
    assert definition_of(f"{code}:other") != first


def test_weights_are_known_by_their_contents(tmp_path):
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    save_file(Tiny(1, 4).state_dict(), paths[0])
    paths[1].write_bytes(paths[0].read_bytes())
    assert definition_of(paths[0]) == definition_of(str(paths[1]))
    save_file(Tiny(1, 4).state_dict(), paths[1])
    assert definition_of(paths[0]) != definition_of(paths[1])
    assert definition_of(Path("nowhere.pt")) == "nowhere.pt"


def test_modules_are_known_by_their_weights():
    torch.manual_seed(0)
    one = nn.Linear(2, 2)
    assert definition_of(one) != definition_of(nn.Linear(2, 2))
    again = nn.Linear(2, 2)
    again.load_state_dict(one.state_dict())
    assert definition_of(again) == definition_of(one)


def test_functions_of_installed_packages_are_known_by_name():
    assert definition_of(nn.CrossEntropyLoss) == "torch.nn.modules.loss.CrossEntropyLoss"
    assert definition_of(np.mean) == "numpy.mean"


def test_own_code_is_known_by_the_file_that_it_stands_in(code, tmp_path):
    first = definition_of(object_of(f"{code}:make", "x"))
    made = definition_of(object_of(f"{code}:make", "x")())
    assert first["file"] == made["file"]
    assert made["state"] == {"by": 0.5}
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "mine.py"
    moved.write_text(CODE)
    assert definition_of(object_of(f"{moved}:make", "x")()) == made
    code.write_text(CODE.replace("* self.by", "/ self.by"))
    assert definition_of(object_of(f"{code}:make", "x"))["file"] != first["file"]
    assert definition_of(object_of(f"{code}:make", "x")())["file"] != made["file"]


def test_functions_know_what_they_are_called_with():
    assert definition_of(partial(tiny, 1)) != definition_of(partial(tiny, 2))
    by = [Scaled(0.5), Scaled(0.25)]
    assert definition_of(by[0]) != definition_of(by[1])
    assert definition_of(by[0]) == definition_of(Scaled(0.5))


class Scaled:
    """An augmentation with a parameter."""

    def __init__(self, by):
        self.by = by

    def __call__(self, image):
        return image * self.by


def test_functions_within_functions_know_what_they_enclose():
    def scaled(by):
        return lambda image: image * by

    assert definition_of(scaled(0.5)) == definition_of(scaled(0.5))
    assert definition_of(scaled(0.5)) != definition_of(scaled(0.25))


@pytest.mark.slow
def test_other_processes_say_the_same():
    code = (
        "import json; from helpers.tiny_nets import own_net; "
        "from tsynd_sk.comparison._results_folder import definition_of; "
        "print(json.dumps(definition_of(own_net(module__n_out=3, module__dropout=0.1))))"
    )
    here = Path(__file__).parents[2]
    path = os.pathsep.join([str(here), str(here / "tests")])
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in "12"
    }
    assert len(texts) == 1


def test_what_holds_itself_has_an_end():
    own = Scaled(0.5)
    own.by = [own]
    assert "itself" in json.dumps(definition_of(own))


def test_methods_know_what_they_belong_to():
    assert definition_of(Scaled(0.5).__call__) != definition_of(Scaled(0.25).__call__)


def test_estimators_are_known_by_their_parameters():
    first = definition_of(net(lr=0.1))
    assert list(first) == ["NetClassifier"]
    assert definition_of(net(lr=0.1)) == first
    assert definition_of(net(lr=0.2)) != first
    assert definition_of(net(module__width=5)) != definition_of(net(module__width=6))
    splits = [own_net(train_split=ValidSplit(k)) for k in (3, 3, 5)]
    first, again, other = map(definition_of, splits)
    assert first == again != other
    assert definition_of(own_net(module__dropout=0.1)) != definition_of(own_net(module__dropout=0))


def test_arms_say_what_they_differ_in():
    assert ARMS["plain"].definition() == {}
    assert Arm(**ARMS["standard+random"].definition()) == ARMS["standard+random"]
    assert ARMS["entropy"].definition() == {"objective": "entropy"}
    assert len({json.dumps(arm.definition()) for arm in ARMS.values()}) == len(ARMS)
    assert repr(ARMS["standard+random"]) == "Arm(augmentation='standard', objective='random')"
    own = [Arm(Scaled(by)).definition() for by in (0.5, 0.5, 0.25)]
    assert own[0] == own[1] != own[2]


def test_defaults_are_known():
    defaults = part_defaults()
    assert defaults["NetClassifier.module"] == "ConvNet"
    assert defaults["Pretrained.freeze"] == "False"
    assert "TargetedSynthesizer.radius" in defaults
