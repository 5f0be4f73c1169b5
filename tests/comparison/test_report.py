"""The report of a comparison: right values, nothing from elsewhere, whatever the names are."""

import base64
import io
import itertools
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers.made_results import NAMES, made
from PIL import Image

from tsynd_sk import __version__
from tsynd_sk.classifiers import NetClassifier, Pretrained
from tsynd_sk.comparison import ARMS, About, Arm, write_report
from tsynd_sk.comparison._compare import call_text, division_text
from tsynd_sk.comparison._report import (
    forest,
    loss_curves,
    network_text,
    pictures,
    render,
    word,
)

GAINS = {"standard": 0.5, "standard+random": 0.9, "standard+mutual_info": 0.1}
ABOUT = About(
    "scans", (1, 8, 6), ["scored on: its own test images"], "python -m tsynd_sk --seeds 5"
)
VOID = {"meta", "img", "br", "wbr", "path", "polyline"}


class Page(HTMLParser):
    """What a page holds: text, attributes, and whether each tag is closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.texts, self.attributes, self.tags = [], [], [], []
        self.feed(html)
        assert not self.open
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)


def page(result, about=ABOUT):
    return Page(render(result, about))


def sample(n=3, shape=(8, 6), dtype=np.uint8, **params):
    rng = np.random.default_rng(0)
    source = rng.integers(20, 230, (n, *shape)).astype(dtype)
    return {
        "source": source,
        "synthetic": source + rng.integers(-9, 10, source.shape).astype(dtype),
        "uncertainty_source": np.linspace(0.01, 0.02, n),
        "uncertainty": np.linspace(0.1, 0.2, n),
        "label_agreement": np.arange(n) > 0,
        "labels": np.array([f"class {k}" for k in range(n)]),
        "value_range": np.array([0.0, 255.0]),
        **params,
    }


@pytest.fixture(scope="module")
def whole():
    losses = {(run, arm): [1.0, 0.5 + run / 10, 0.25] for run in range(5) for arm in NAMES}
    samples = {"standard+random": sample(), "standard+mutual_info": sample()}
    return made(GAINS, late=("standard",), losses=losses, samples=samples, base=NetClassifier())


class TestContent:
    def test_the_verdict_is_there_with_what_to_doubt(self, whole):
        text = page(whole).text
        assert "Recommended here standard+ random" in text
        assert "in ROC AUC on clean images, standard is better than plain by +0." in text
        assert "Caveats Not converged: standard . The training loss" in text
        assert "Recommended: " not in text

    def test_scores_and_differences_are_those_of_the_result(self, whole):
        text = page(whole).text.replace("−", "-")
        for arm in NAMES:
            assert f"{whole.values(arm, 'roc_auc').mean():.3f}" in text
            assert f"{whole.values(arm, 'perturbed_roc_auc').mean():.3f}" in text
        pairs = [*whole.references.items(), ("standard+random", "plain")]
        for arm, reference in pairs:
            d = whole.difference(arm, reference, "roc_auc")
            assert f"{d.mean:+.3f}" in text
            assert f"{d.low:+.3f} to {d.high:+.3f}" in text
        nll = whole.difference("standard", "plain", "nll")
        assert f"{nll.mean:+.3f} better {nll.low:+.3f} to {nll.high:+.3f}" in text
        assert text.count("not converged") == 2

    def test_data_training_and_versions_are_told(self, whole):
        text = page(whole).text
        assert "Training images 300 Test images 300 Images 6 × 8 px, grey Classes 3" in text
        assert "Scored on its own test images" in text
        counts = np.bincount(whole.codes[whole.train_rows[0]])
        assert f"class 0 {counts[0]}" in text
        assert "converged in 0 of 5 runs, loss 0.25 at the end" in text
        assert "Batch size 16" in text
        assert f"tsynd_sk {__version__} torch" in text
        assert "To repeat this python -m tsynd_sk --seeds 5" in text

    def test_images_are_shown_with_what_was_measured(self, whole):
        made_page = page(whole)
        assert made_page.tags.count("img") == 2 * 3 * 3
        alts = [value for name, value in made_page.attributes if name == "alt"]
        assert alts[:3] == [
            "Training image: class 0",
            "Synthetic image from it",
            "Difference of the two",
        ]
        assert "class 0 MI 0.010 → 0.100 label denied" in made_page.text
        assert made_page.text.count("label denied") == 2
        assert "share it only as you may share these" in made_page.text

    def test_nothing_refers_outside(self, whole):
        html = render(whole, ABOUT)
        made_page = Page(html)
        links = [v for n, v in made_page.attributes if n in ("src", "href", "srcset", "data")]
        assert links
        assert all(link.startswith("data:image/png;base64,") for link in links)
        assert not {"script", "link", "iframe", "object", "a"} & set(made_page.tags)
        assert not re.search(r"url\(|@import|https?:|\bon\w+=", html)
        assert "default-src 'none'" in html

    def test_it_is_small_enough_to_mail(self):
        rng = np.random.default_rng(0)
        large = rng.integers(0, 256, (8, 224, 224, 3)).astype(np.uint8)
        samples = {"standard+random": sample(8, source=large, synthetic=large[::-1])}
        # Noise, which no photograph is as hard to compress as.
        assert len(render(made(samples=samples), ABOUT)) < 4e6

    def test_it_can_be_read_aloud_and_in_order(self, whole):
        made_page = page(whole)
        headings = [int(tag[1]) for tag in made_page.tags if re.fullmatch(r"h\d", tag)]
        assert headings[0] == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
        ids = [value for name, value in made_page.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        named = [value for name, value in made_page.attributes if name == "aria-labelledby"]
        assert set(named) <= set(ids)
        assert ("lang", "en") in made_page.attributes

    def test_names_are_no_markup(self):
        evil = "<img src=x onerror=alert(1)>&\"'`"
        result = made(names=("plain", "standard"), samples={"standard": sample(1, labels=[evil])})
        arms = {"plain": ARMS["plain"], evil: ARMS["standard"]}
        rows = [row | {"arm": evil if row["arm"] == "standard" else "plain"} for row in result.rows]
        proba = {
            (k, evil if a == "standard" else a): p for (k, a), p in result.probabilities.items()
        }
        result = replace(
            result,
            arms=arms,
            references={evil: "plain"},
            rows=rows,
            probabilities=proba,
            classes=np.array([evil, "b", "c"]),
            losses={(0, evil): [1.0, 0.5]},
        )
        html = render(result, About(evil, (1, 8, 6), [f"{evil}: {evil}"], evil))
        assert "<img src=x" not in html
        assert Page(html).text.count("<img src=x onerror=alert(1)>&\"'`") >= 6


class TestCases:
    def test_one_run_has_no_intervals_and_no_recommendation(self):
        text = page(made(GAINS, n_runs=1)).text
        assert "One seed decides nothing" in text
        assert "One run has no interval." in text
        assert "Recommended here" not in text
        assert "nan" not in text
        assert "Of one run." in text

    def test_nothing_found_keeps_to_what_is_simple(self):
        assert "No arm is significantly better: stay with plain" in page(made()).text

    def test_a_single_arm_has_no_differences(self):
        text = page(made(names=("plain",))).text
        assert "Scores" in text
        assert "Differences" not in text

    def test_scores_that_do_not_exist_are_dashes(self):
        result = made(GAINS)
        for row in result.rows:
            row["roc_auc"] = row["perturbed_roc_auc"] = np.nan
        text = page(result).text
        assert "There is no ROC AUC" in text
        assert "–" in text
        assert "nan" not in text

    def test_less_is_better_turns_the_axis(self):
        text = page(replace(made(GAINS), primary="nll")).text
        assert "← better worse →" in text
        assert "NLL on clean images" in text

    def test_attacks_have_columns_and_doubts(self):
        result = made()
        for row in result.rows:
            row |= {"pgd_2_accuracy": 0.5, "pgd_2_balanced_accuracy": 0.25}
            row["gradient_masking"] = "x" * (row["run"] == 0)
        text = page(result).text
        assert "Accuracy pgd 2/255" in text
        assert "Gradients seem masked in 4 runs" in text

    def test_many_classes_are_not_all_listed(self):
        text = page(made(n_classes=25, n_test=250)).text
        assert "class 19" in text
        assert "and 5 more" in text

    def test_groups_are_counted(self):
        text = page(made(groups=np.arange(600) % 40)).text
        assert "of 40 and 40 groups" in text

    def test_without_matplotlib_it_is_the_same(self, whole, monkeypatch):
        before = render(whole, ABOUT)
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        assert render(whole, ABOUT) == before


class TestFigures:
    def test_marks_lie_where_their_values_are(self, whole):
        drawn = forest(whole)
        assert [(d.arm, d.reference) for d in (line["difference"] for line in drawn["lines"])] == [
            ("standard", "plain"),
            ("standard+random", "standard"),
            ("standard+random", "plain"),
            ("standard+mutual_info", "standard"),
            ("standard+mutual_info", "plain"),
        ]
        zero = {text: at for at, text in drawn["ticks"]}["0"]
        assert zero == 50
        tick, text = drawn["ticks"][-1]
        for line in drawn["lines"]:
            d = line["difference"]
            assert line["dot"] - 50 == pytest.approx(d.mean / float(text) * (tick - 50), abs=0.02)
            assert line["low"] < line["dot"] < line["high"]
            assert line["low"] >= 0
            assert line["high"] <= 100
        assert [word(line["difference"]) for line in drawn["lines"]] == [
            "better",
            "better",
            "",
            "worse",
            "",
        ]

    def test_very_wide_intervals_are_cut(self):
        result = made({"standard": 0.001}, names=("plain", "standard"), n_runs=2, n_test=20)
        for row in result.rows:
            row["roc_auc"] = 0.9 + (row["arm"] == "standard") * (row["run"] - 0.48) / 5
        (line,) = forest(replace(result, test_rows=[np.arange(20), np.arange(1, 21)]))["lines"]
        assert (line["low"], line["high"]) == (0, 100)

    def test_losses_are_drawn_from_the_first_epoch_to_the_last(self, whole):
        curves = loss_curves(whole)
        assert (curves["top"], curves["n_epochs"]) == ("1", 3)
        assert list(curves["arms"]) == list(NAMES)
        assert curves["arms"]["plain"]["lines"][0] == "0.0,0.0 130.0,55.0 260.0,82.5"
        assert loss_curves(made()) == {}

    def test_long_and_infinite_losses_can_be_drawn(self):
        losses = {(0, "plain"): [*np.linspace(2, 1, 5000), np.nan]}
        drawn = loss_curves(made(losses=losses))["arms"]["plain"]["lines"][0]
        assert 100 < len(drawn.split()) <= 200
        assert "nan" not in drawn

    @pytest.mark.parametrize("shape", [(8, 6), (8, 6, 3), (8, 6, 1), (8, 6, 4)])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_images_are_shown_as_they_are(self, shape, dtype):
        given = sample(2, shape, dtype)
        shown = pictures(given)
        source, change = (decoded(shown["columns"][0][n]) for n in ("source", "difference"))
        expected = given["source"][0].astype(float)
        if len(shape) == 3 and shape[-1] != 3:
            expected = expected.mean(axis=-1)
        np.testing.assert_allclose(source, expected, atol=0.51)
        assert change.shape == (8, 6, 4)
        d = given["synthetic"].astype(float) - given["source"]
        d = d[..., np.newaxis].mean(axis=(-1) if len(shape) == 2 else (-2, -1))
        np.testing.assert_allclose(change[..., 3], 255 * np.abs(d[0]) / np.abs(d).max(), atol=0.51)
        assert (change[d[0] > 0][:, 0] > change[d[0] > 0][:, 2]).all()
        assert float(shown["bound"]) == pytest.approx(100 * np.abs(d).max() / 255, rel=0.05)

    def test_equal_images_have_no_difference(self):
        given = sample(1)
        shown = pictures(given | {"synthetic": given["source"]})
        assert not decoded(shown["columns"][0]["difference"])[..., 3].any()


def decoded(text):
    content = base64.b64decode(text.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)))


class TestAbout:
    def test_a_call_is_written_with_what_differs(self, tmp_path):
        given = {"estimator": None, "X": np.zeros(3), "y": [0, 1]}
        defaults = dict.fromkeys(("arms", "cv", "n_repeats", "groups", "n_train", "n_jobs"))
        defaults |= {"scoring": "roc_auc", "flip": True, "eps": (), "attacks": ("pgd",)}
        defaults |= {"n_attacked": 256, "random_state": 0, "out": None, "verbose": 0}
        assert call_text(given | defaults) == "compare(estimator, X, y)"
        chosen = {"arms": {"mine": Arm("standard", "random")}, "groups": np.arange(3), "eps": 0.5}
        chosen |= {"out": Path("here"), "flip": False}
        assert call_text(given | defaults | chosen) == (
            "compare(estimator, X, y, arms={'mine': Arm(augmentation='standard', "
            "objective='random')}, groups=groups, flip=False, eps=0.5, out='here')"
        )

    def test_divisions_are_told(self):
        own = made(official=False)
        assert division_text(own, None).endswith(
            "by class, with images of equal pixels kept together"
        )
        assert "groups and images" in division_text(made(groups=np.arange(600)), None)
        assert division_text(made(), [1]) == "scored on: the same 300 images in all runs"
        assert division_text(own, 5) == "scored on: parts that cv=5 holds out"

    def test_networks_are_named(self):
        assert network_text(NetClassifier(module__width=4)) == "ConvNet, width 4"
        named = NetClassifier(Pretrained, module__net="resnet18", module__weights="imagenet")
        assert network_text(named) == "Pretrained, net resnet18, weights imagenet"


def test_a_result_is_not_lost_for_a_report(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.warns(UserWarning, match="no report could be written: "):
        assert not write_report(tmp_path / "report.html", made(), ABOUT)
