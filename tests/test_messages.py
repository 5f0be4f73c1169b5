"""Errors and warnings say what to do, or the page on what goes wrong does; words of the field."""

import re
from pathlib import Path

import pytest
from helpers.messages import VALUE, all_texts, messages

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "troubleshooting.rst"
# What to say in place of which words: a dictionary of codespell, which knows no phrases.
AVOIDED = ROOT / "docs" / "house_words.txt"
READ = [
    ROOT.glob("*.md"),
    ROOT.glob("docs/*.rst"),
    ROOT.glob("docs/guide/*.rst"),
    ROOT.glob("examples/*.py"),
]

# Messages that no user gets.
INTERNAL = {
    "module … has no attribute …": "said by Python in these words of any module",
    "… takes more than one tensor of rows": "caught: members are computed one by one then",
    "… is … in the file, but … in the estimator": "part of the error of load_params",
    "nothing of the estimator is called …": "part of it, too",
}


def entries():
    """The first words of messages that the page explains."""
    own = PAGE.read_text().partition("Errors of other libraries")[0]
    terms = re.findall(r"^(``.+``)\n +\S", own, re.M)
    return [words for term in terms for words in re.findall(r"``(.+?)``", term)]


def is_internal(message):
    return any(message.text.startswith(text) for text in INTERNAL)


def is_on_the_page(message):
    return any(message.text.startswith(entry) for entry in entries())


@pytest.fixture(scope="module")
def own():
    """Messages that are more than what another one says."""
    found = [message for message in messages() if not message.hands_on]
    assert len(found) > 200
    return found


def test_every_error_names_a_way_out_or_is_on_the_page(own):
    lost = [
        f"{message.where}: {message.text}"
        for message in own
        if message.kind != "warn"
        and not (message.names_a_way_out or is_on_the_page(message) or is_internal(message))
    ]
    assert not lost


def test_every_warning_is_on_the_page(own):
    lost = [
        f"{message.where}: {message.text}"
        for message in own
        if message.kind == "warn" and not is_on_the_page(message)
    ]
    assert not lost


def test_the_page_explains_no_message_that_is_gone():
    texts = all_texts()
    gone = [
        entry
        for entry in (*entries(), *INTERNAL)
        if not any(entry.removeprefix(f"{VALUE}: ") in text for text in texts)
    ]
    assert not gone


def test_pages_and_docstrings_say_no_house_words():
    avoided = [line.partition("->")[0] for line in AVOIDED.read_text().splitlines()]
    found = re.compile(rf"\b({'|'.join(map(re.escape, avoided))})\b", re.I)
    assert found.search("The members take it for a cat.")
    texts = {path.name: path.read_text() for paths in READ for path in paths}
    texts |= {text[:60]: text for text in all_texts()}
    said = [
        f"{name}: {match[0]}"
        for name, text in texts.items()
        # Lines are broken anywhere, in comments too.
        if (match := found.search(re.sub(r"\s+(# )?", " ", text)))
    ]
    assert not said
