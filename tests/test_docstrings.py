"""Public names are documented: docstrings, their format, and a page of the reference for each."""

import ast
import builtins
import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
import textwrap
import tomllib
from dataclasses import is_dataclass
from pathlib import Path

import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc
from numpydoc.validate import validate

import tsynd_sk

ROOT = Path(__file__).resolve().parents[1]
MODULES = [
    importlib.import_module(name)
    for name in (
        "tsynd_sk",
        *(f"tsynd_sk.{m.name}" for m in pkgutil.iter_modules(tsynd_sk.__path__)),
    )
    if not name.startswith("tsynd_sk._")
]
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in MODULES
    for name in getattr(module, "__all__", ())
    if name != "__version__"
}
CONSTANTS = [
    name
    for name, value in PUBLIC.items()
    if not (inspect.isclass(value) or inspect.isfunction(value))
]
# Those whose example shows each of their methods and properties.
SHOWN_IN_FULL = {
    "tsynd_sk.AugmentedClassifier",
    "tsynd_sk.TargetedSynthesizer",
    "tsynd_sk.comparison.Arm",
    "tsynd_sk.comparison.ComparisonResult",
    "tsynd_sk.comparison.Splits",
    "tsynd_sk.evaluation.RobustnessReport",
    *(name for name in PUBLIC if name.endswith("Display")),
}
# Those that download.
NOT_RUN = {"tsynd_sk.datasets.load_medmnist"}


def checked_names():
    """Public classes and functions, once each, with the methods that this package writes."""
    seen = set()
    for name, value in PUBLIC.items():
        if not (inspect.isclass(value) or inspect.isfunction(value)) or id(value) in seen:
            continue
        seen.add(id(value))
        yield name
        if not inspect.isclass(value):
            continue
        written = {
            member: there
            for base in reversed(value.__mro__)
            if base.__module__.startswith("tsynd_sk")
            for member, there in vars(base).items()
        }
        for member, there in written.items():
            documented = inspect.isroutine(there) or isinstance(there, property)
            if documented and member[0] != "_" and not re.fullmatch("set_.*_request", member):
                yield f"{name}.{member}"


def get(name):
    owner, _, member = name.rpartition(".")
    return PUBLIC.get(name) or getattr(PUBLIC[owner], member)


def needs_example(name):
    """Classes and functions do; an example of a class shows its methods."""
    return name in PUBLIC


def errors_raised(value):
    """Names of Python's errors after `raise` in a function, or in the constructor of a class."""
    if inspect.isclass(value):
        value = vars(value).get("__post_init__" if is_dataclass(value) else "__init__")
    value = value.fget if isinstance(value, property) else value
    if not inspect.isroutine(value):
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    raised = (node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise))
    names = {error.func.id for error in raised if isinstance(error, ast.Call)}
    return names & set(vars(builtins))


def errors_named(value):
    """Names of the errors in the section Raises."""
    found = FunctionDoc(value)["Raises"] if callable(value) else []
    names = (name for entry in found for name in entry.type.split(","))
    return {name.strip().rpartition(".")[2] for name in names}


def is_of_protocol(name):
    """Whether it is a method that skorch or torch calls, whose documentation has its parameters."""
    owner, _, member = name.rpartition(".")
    bases = PUBLIC[owner].__mro__ if owner in PUBLIC else ()
    return any(
        base.__module__.startswith(("skorch.", "torch.")) and member in vars(base) for base in bases
    )


def fields_are_attributes(name):
    """Whether a class that others make for the user describes its fields as attributes."""
    value = get(name)
    if not inspect.isclass(value) or issubclass(value, BaseException):
        return False
    described = {
        part.strip() for field in ClassDoc(value)["Attributes"] for part in field.name.split(",")
    }
    return described >= set(inspect.signature(value).parameters)


def named_beside(name):
    """Public names that a docstring has under See Also, as `PUBLIC` has them."""
    value, module = PUBLIC[name], name.rpartition(".")[0]
    entries = (ClassDoc if inspect.isclass(value) else FunctionDoc)(value)["See Also"]
    named = [other for others, _ in entries for other, _ in others]
    full = [other if "." in other else f"{module}.{other}" for other in named]
    own = [other for other in full if other.startswith("tsynd_sk.")]
    assert set(own) <= set(PUBLIC), f"{name} names {set(own) - set(PUBLIC)}, which are not public"
    return own


def extension_of_docs(name):
    path = ROOT / "docs" / "_extensions" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rules():
    with (ROOT / "pyproject.toml").open("rb") as file:
        return set(tomllib.load(file)["tool"]["numpydoc_validation"]["checks"])


def page_entries():
    """Names in the tables of the reference, each after the module that stands before it."""
    entries = []
    for page in sorted((ROOT / "docs" / "api").glob("*.rst")):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if found := re.fullmatch(r"\.\. (?:auto|current)?module:: ([\w.]+)", line):
                module = found[1]
            elif re.fullmatch(r" {3}[A-Za-z_]+", line) and module:
                entries.append(f"{module}.{line.strip()}")
    return entries


@pytest.mark.parametrize("name", list(checked_names()))
def test_docstring_is_valid(name):
    off = rules() - {"all"}
    if is_of_protocol(name):
        off |= {"PR01", "RT01"}
    if fields_are_attributes(name):
        off |= {"PR01"}
    if not needs_example(name):
        off |= {"EX01"}
    faults = [f"{code}: {fault}" for code, fault in validate(name)["errors"] if code not in off]
    assert (get(name).__doc__ or "").strip(), f"{name} has no docstring"
    assert not faults, "\n".join([name, *faults])


@pytest.mark.parametrize("name", list(filter(needs_example, checked_names())))
def test_example_runs_without_files_of_the_users(name):
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(get(name)))
    skipped = [example.source for example in examples if doctest.SKIP in example.options]
    assert not skipped or name in NOT_RUN, f"{name} has examples that never run: {skipped}"


@pytest.mark.parametrize(
    "name", [n for n in checked_names() if n.rpartition(".")[0] in SHOWN_IN_FULL]
)
def test_examples_show_each_member_of_what_people_use_most(name):
    owner, _, member = name.rpartition(".")
    shown = [get(owner)]
    if hasattr(get(owner), "save_params"):
        shown.append(get(owner).save_params)
    examples = [
        e.source for one in shown for e in doctest.DocTestParser().get_examples(inspect.getdoc(one))
    ]
    assert any(re.search(rf"\.{member}\b", example) for example in examples)


@pytest.mark.parametrize("name", [n for n in checked_names() if n in PUBLIC])
def test_see_also_goes_both_ways(name):
    one_way = [other for other in named_beside(name) if name not in named_beside(other)]
    assert not one_way, f"{name} names {one_way} under See Also, which do not name it"


@pytest.mark.parametrize("name", list(checked_names()))
def test_errors_that_are_raised_are_documented(name):
    owner = PUBLIC.get(name.rpartition(".")[0])
    named = errors_named(get(name)) | (errors_named(owner) if owner else set())
    missing = errors_raised(get(name)) - named
    assert not missing, f"{name} raises {missing}, which its section Raises does not name"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_module_says_what_it_is_about(module):
    assert module.__doc__
    assert module.__all__


@pytest.mark.parametrize("name", CONSTANTS)
def test_comment_on_a_constant_says_what_it_is_and_has_an_example_that_runs(name):
    comment = extension_of_docs("constants").comment_on(name)
    assert comment, f"{name} needs a #: comment where it is defined"
    example = doctest.DocTestParser().get_doctest("\n".join(comment), {}, name, None, None)
    assert example.examples, f"the #: comment on {name} needs an example"
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.DocTestRunner(optionflags=flags).run(example).failed == 0


@pytest.mark.parametrize(("name", "groups"), extension_of_docs("parameter_groups").GROUPS.items())
def test_every_parameter_is_in_one_group(name, groups):
    value = PUBLIC[name]
    described = (ClassDoc if inspect.isclass(value) else FunctionDoc)(value)["Parameters"]
    grouped = [parameter for group in groups.values() for parameter in group]
    assert sorted(grouped) == sorted(parameter.name for parameter in described)


def test_every_public_object_has_one_page_and_every_page_a_public_object():
    entries = page_entries()
    assert set(entries) <= set(PUBLIC), "pages of names that are not public"
    seen = {id(PUBLIC[name]) for name in entries}
    missing = [name for name, value in PUBLIC.items() if id(value) not in seen]
    assert not missing, f"enter in docs/api: {missing}"
    assert len(seen) == len(entries), "an object has several pages"
