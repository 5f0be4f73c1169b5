"""Check the built site: nothing on it needs the network, and its search finds what people look for.

``python .ci/check_site.py docs/_build/html`` exits with 1, and says why, if something is wrong.
"""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

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


class _Resources(HTMLParser):
    """Addresses that a browser fetches by itself, which links to other sites are not."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed"):
            self.found.append(given.get("src") or "")
        elif tag == "link" and given.get("rel") != "canonical":
            self.found.append(given.get("href") or "")


def from_elsewhere(site: Path) -> list[str]:
    """List what pages and styles would fetch from other sites."""
    wrong = []
    for page in sorted(site.rglob("*.html")):
        resources = _Resources()
        resources.feed(page.read_text(encoding="utf-8"))
        wrong += [(page, url) for url in resources.found]
    for style in sorted(site.rglob("*.css")):
        urls = re.findall(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", style.read_text())
        wrong += [(style, one or other) for one, other in urls]
    return [
        f"{file.relative_to(site)} fetches {url}"
        for file, url in wrong
        if re.match(r"(https?:)?//", url)
    ]


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
    """List queries that do not find their page."""
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return [
        f"a search for {query!r} does not find {page}, but {sorted(found(index, query))}"
        for query, page in QUERIES.items()
        if page not in found(index, query)
    ]


def main() -> int:
    """Print what is wrong with the site whose folder is given."""
    site = Path(sys.argv[1])
    wrong = [*from_elsewhere(site), *not_found(site)]
    print(*wrong, f"{len(QUERIES)} searches, {len(wrong)} faults", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
