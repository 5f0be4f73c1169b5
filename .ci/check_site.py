"""Check the built site: it needs no network, links lead somewhere, pages have titles and are found.

``python .ci/check_site.py docs/_build/html`` exits with 1, and says why, if something is wrong.
"""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.search.en import SearchEnglish

# What people type, and a page that has to be among what they find.
QUERIES = {
    "resnet": "guide/networks",
    "torchvision": "guide/networks",
    "timm": "compared",
    "224": "guide/how_long",
    "DICOM": "guide/image_files",
    "patient": "guide/choose",
    "class imbalance": "guide/imbalance",
    "GPU": "guide/how_long",
    "memory": "guide/how_long",
    "slow": "guide/how_long",
    "reproducible": "guide/reproducibility",
    "SMOTE": "compared",
}


class _Page(HTMLParser):
    """What a page fetches by itself, what it links to, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed"):
            self.fetched += [given["src"]] if "src" in given else []
        elif tag == "link" and given.get("rel") != "canonical":
            self.fetched.append(given.get("href", ""))
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])


def not_there(site: Path) -> list[str]:
    """List what pages and styles fetch from other sites, and files and anchors that are missing."""
    wrong = []
    # Templates of the theme are no pages.
    found = (path for path in site.rglob("*.html") if "_static" not in path.parts)
    pages = {path.resolve(): _Page(path) for path in found}
    for path, page in pages.items():
        for url in [*page.fetched, *page.links]:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                if url in page.fetched and parts.scheme != "data":
                    wrong.append((path, f"fetches {url}"))
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[target].anchors | {""} if target in pages else {unquote(parts.fragment)}
            if not target.exists() or unquote(parts.fragment) not in known:
                wrong.append((path, f"links to {url}, which is not there"))
    for path in site.rglob("*.css"):
        urls = re.findall(
            r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""", path.read_text()
        )
        wrong += [(path.resolve(), f"fetches {url}") for url in urls]
    return [f"{path.relative_to(site.resolve())} {what}" for path, what in sorted(set(wrong))]


def found(index: dict, query: str) -> set[str]:
    """Find pages as the script of the site does: by all words, or by an entry of the index."""
    language = SearchEnglish({})
    names = index["docnames"]

    def pages(word: str) -> set[str]:
        hits: set[str] = set()
        for kind in ("terms", "titleterms"):
            rows = index[kind].get(word, [])
            hits |= {names[row] for row in (rows if isinstance(rows, list) else [rows])}
        return hits

    by_entry = {
        names[row]
        for entry, rows in index["indexentries"].items()
        for row, *_ in rows
        if query.lower() in entry and len(query) >= len(entry) / 2
    }
    # The script leaves numbers out.
    words = [language.stem(word) for word in query.lower().split() if not word.isdigit()]
    by_words = set.intersection(*map(pages, words)) if words else set()
    return by_words | by_entry


def not_found(site: Path) -> list[str]:
    """List queries that do not find their page, and pages that would be found without a title."""
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text[text.index("{") : text.rindex("}") + 1])
    untitled = [
        f"{name} has no title: exclude what is only included"
        for name, title in zip(index["docnames"], index["titles"], strict=True)
        if title == "<no title>"
    ]
    return untitled + [
        f"a search for {query!r} does not find {page}, but {sorted(found(index, query))}"
        for query, page in QUERIES.items()
        if page not in found(index, query)
    ]


def main() -> int:
    """Print what is wrong with the site whose folder is given."""
    site = Path(sys.argv[1])
    wrong = [*not_there(site), *not_found(site)]
    print(*wrong, f"{len(QUERIES)} searches, {len(wrong)} faults", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
