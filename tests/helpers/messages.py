"""The errors and warnings of the package, read off its source."""

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

import tsynd_sk

FOLDER = Path(tsynd_sk.__file__).parent
#: What stands in a message for a value that only a run knows.
VALUE = "…"

# What tells a user what to do: what is expected; or an instruction, at the beginning of a clause.
_EXPECTED = r"\b(must|expect(s|ed|ing)|needs?|requires|known:|did you mean|pip install)"
_VERBS = (
    "add build call check choose construct convert copy draw encode fit flatten give join "
    "keep leave let load lower mend move name pass prepare put raise register remove rename "
    "replace reshape resize run save scale set sort tell train unwrap upgrade use"
)
_INSTRUCTION = rf"(^|\n|[:;.?,)]\s)((and|or|then|please) )?({'|'.join(_VERBS.split())})\b"
_WAY_OUT = re.compile(f"{_EXPECTED}|(?i:{_INSTRUCTION})")


class Message(NamedTuple):
    """A message, its text without values and with those that the source holds."""

    where: str
    kind: str
    text: str
    whole: str

    @property
    def names_a_way_out(self):
        return _WAY_OUT.search(self.whole) is not None

    @property
    def hands_on(self):
        """Whether it says next to nothing of its own, but what another message says."""
        return len(re.findall(r"[A-Za-z]{2,}", self.text)) < 3


def messages():
    """Return the messages of all errors that are made, and of all warnings."""
    found = []
    for path, tree in _trees():
        texts = _texts_of(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = ast.unparse(node.func)
            kind = name.rpartition(".")[2]
            args = node.args[:1]
            if re.search(r"\bwarnings\.(append|insert)$", name):
                # What a folder warns of is gathered first.
                kind, args = "warn", node.args[-1:]
            elif kind != "warn" and not re.search(r"(Error|Fault)$", kind):
                continue
            # A FileFault is counted by its first argument; the second is the message.
            whole = node.args if kind == "FileFault" else args
            found.append(
                Message(
                    f"{path.relative_to(FOLDER)}:{node.lineno}",
                    kind,
                    _text(args[0]),
                    " ".join(_text(arg, texts) for arg in whole),
                )
            )
    return found


def all_texts():
    """Return all texts in the source, whatever they are for."""
    strings = (ast.Constant, ast.JoinedStr, ast.BinOp)
    return {
        _text(node) for _, tree in _trees() for node in ast.walk(tree) if isinstance(node, strings)
    }


@functools.cache
def _trees():
    return [(path, ast.parse(path.read_text())) for path in sorted(FOLDER.rglob("*.py"))]


def _texts_of(tree):
    """Return the texts of a module that have a name: variables, and what functions return."""
    texts = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            named = [target.id for target in node.targets if isinstance(target, ast.Name)]
            values = [node.value]
        elif isinstance(node, ast.FunctionDef):
            named = [node.name]
            values = [part.value for part in ast.walk(node) if isinstance(part, ast.Return)]
        else:
            continue
        for name in named:
            texts[name] = " ".join([texts.get(name, ""), *(_text(v, {}) for v in values if v)])
    return texts


def _text(node, texts=None):
    """Return the text that an expression makes; `texts`, if given, are looked up by name."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else VALUE
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, texts) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, texts) + _text(node.right, texts)
    if texts is None:
        return VALUE
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, texts)
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body, texts)}; {_text(node.orelse, texts)}"
    if isinstance(node, ast.Name):
        return texts.get(node.id, VALUE)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return texts.get(node.func.id, VALUE)
    return VALUE
