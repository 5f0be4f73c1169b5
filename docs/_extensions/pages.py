"""What templates of the API reference say of public objects, and types that become links."""

import importlib
import inspect
import pkgutil
import re
from typing import Any

import tsynd_sk

# These methods are called by skorch and torch; their own documentation tells the protocol.
_PROTOCOLS = ("skorch", "torch")


def _public() -> dict[str, Any]:
    modules = [m.name for m in pkgutil.iter_modules(tsynd_sk.__path__) if m.name[0] != "_"]
    found = {}
    for name in ("tsynd_sk", *(f"tsynd_sk.{module}" for module in modules)):
        module = importlib.import_module(name)
        found |= {f"{name}.{public}": getattr(module, public) for public in module.__all__}
    return found


PUBLIC = _public()

# From the words of docstrings to what they link to.
TYPES = {
    **{
        # Public names, as pages have them; the top of the package comes before its packages.
        name.rpartition(".")[2]: name
        for name, value in reversed(PUBLIC.items())
        if inspect.isclass(value)
    },
    "array-like": ":term:`array-like`",
    "ndarray": "numpy.ndarray",
    "RandomState": "numpy.random.RandomState",
    "Bunch": "sklearn.utils.Bunch",
    "Tensor": "torch.Tensor",
    "Module": "torch.nn.Module",
    "Path": "pathlib.Path",
    # numpydoc would link these by way of inventories, which are not always there.
    **{
        word: word
        for word in (
            *("None", "bool", "boolean", "True", "False", "list", "tuple", "str", "string"),
            *("dict", "float", "int", "callable", "iterable", "sequence", "contextmanager"),
            *("namedtuple", "generator", "array", "array_like", "scalar", "numpy"),
        )
    },
}


def _get(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _names(name: str) -> list[str]:
    """All names of an object, under which examples may have used it."""
    value = _get(name)
    found = [other for other, public in PUBLIC.items() if public is value]
    defined = f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', None)}"
    names = {name, *found, defined}
    if inspect.isclass(value):
        # Examples that call a classmethod are filed under its name.
        names |= {f"{one}.{member}" for one in names for member in _own_members(name)}
    return sorted(names)


def _own_members(name: str) -> list[str]:
    """Public methods and properties of a class that this package writes, in alphabetical order."""
    cls = _get(name)
    protocol = {
        member
        for base in cls.__mro__
        if base.__module__.partition(".")[0] in _PROTOCOLS
        for member in vars(base)
    }
    own = {
        member
        for base in cls.__mro__
        if base.__module__.partition(".")[0] == "tsynd_sk"
        for member, value in vars(base).items()
        if inspect.isroutine(value) or isinstance(value, property)
    }
    # scikit-learn puts methods such as `set_score_request` into every class.
    return sorted(
        member
        for member in own - protocol
        if member[0] != "_" and not re.fullmatch("set_.*_request", member)
    )


def _bases(name: str) -> list[str]:
    """Classes of other packages that a class has its other methods from."""
    found = []
    for base in _get(name).__mro__:
        root = base.__module__.partition(".")[0]
        if root == "torch":
            return [*found, "torch.nn.Module"]
        if root == "skorch":
            module = "skorch.callbacks" if "callbacks" in base.__module__ else base.__module__
            return [*found, f"{module}.{base.__qualname__}"]
        if root == "sklearn" and base.__qualname__ in ("BaseEstimator", "ClassifierMixin"):
            found.append(f"sklearn.base.{base.__qualname__}")
    return found


# Values that fill a screen; the text says what is in them.
_LONG_VALUES = [
    name for name, value in PUBLIC.items() if isinstance(value, dict) and len(repr(value)) > 300
]

_CLASSES = [name for name, value in PUBLIC.items() if inspect.isclass(value)]

# For the templates, by name; as values that Sphinx can keep between builds.
CONTEXT = {
    "names": {name: _names(name) for name in PUBLIC},
    "own_members": {name: _own_members(name) for name in _CLASSES},
    "long_values": _LONG_VALUES,
    "bases": {name: _bases(name) for name in _CLASSES},
}
