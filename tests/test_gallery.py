"""The gallery's page shows each lesson once, in the order of its groups."""

import re
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_page_of_the_gallery_shows_and_lists_every_lesson_once():
    page = (EXAMPLES / "index.rst").read_text(encoding="utf-8")
    shown = re.findall(r"^ +\.\./examples/(\w+)\.py$", page, re.MULTILINE)
    listed = re.findall(r"^ +(\w+)$", page, re.MULTILINE)
    lessons = {path.stem for path in EXAMPLES.glob("plot_*.py")} | {"breast_ultrasound"}
    assert shown == listed
    assert sorted(listed) == sorted(lessons)
