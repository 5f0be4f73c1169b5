"""Tables of the guide are what the committed benchmarks give."""

import csv
import sys
from argparse import Namespace
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
GUIDE = EXAMPLES.parent / "docs" / "guide"

pytestmark = pytest.mark.skipif(not GUIDE.exists(), reason="the documentation is not here")


@pytest.fixture
def fit(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import benchmark_fit

    yield benchmark_fit
    for name in ("benchmark_fit", "benchmark_ascent"):
        sys.modules.pop(name, None)


@pytest.fixture
def verdict(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import benchmark_verdict

    yield benchmark_verdict
    sys.modules.pop("benchmark_verdict", None)


def lines(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


class TestFit:
    def test_committed_tables_follow_from_the_benchmark(self, fit, monkeypatch, tmp_path, capsys):
        table, durations = tmp_path / "fit_costs.csv", tmp_path / "durations.csv"
        options = ["report", "--table", str(table), "--durations", str(durations)]
        monkeypatch.setattr(sys, "argv", ["benchmark_fit.py", *options])
        fit.main()
        assert lines(table) == lines(GUIDE / table.name)
        assert lines(durations) == lines(GUIDE / durations.name)

    def test_durations_are_images_times_seconds(self, fit):
        # 100 images for 60 epochs, after 15 of them with half as many synthetic ones: 8,250 rows.
        rows = [
            ["fit-28", "plain training", "8.25", "s"],
            ["fit-28", "AugmentedClassifier.fit / plain training", "2.1", "ratio"],
            ["fit-28", "fit of the autoencoder / plain training", "0.1", "ratio"],
        ]
        plain, synthesis, comparison = fit.durations(rows)
        # 600 steps are 86 epochs of 7 batches, 22 of them before synthesis; 1 ms a row.
        assert plain[:4] == ("28 px, grey", "default", "plain", fit.duration(11.8))
        # Twice as much, and once the autoencoder.
        assert synthesis[3] == fit.duration(23.6 + 0.825)
        # Three seeds of three plain arms and two with synthesis.
        assert comparison[3] == fit.duration(3 * (3 * 11.8 + 2 * 24.425))
        # Ten epochs at least: 10,000 images pass ten times, and half of them seven times.
        assert plain[5] == fit.duration(135)

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(4.24, "4.2 s"), (75, "75 s"), (125, "2.1 min"), (5_500, "1.5 h"), (300_000, "3.5 days")],
    )
    def test_durations_are_read_at_a_glance(self, fit, seconds, text):
        assert fit.duration(seconds) == text


@pytest.mark.slow
def test_committed_evidence_follows_from_the_benchmark(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import benchmark
    import benchmark_report

    benchmark_report.write_report(benchmark.CSV, tmp_path)
    committed = EXAMPLES.parent / "docs" / "evidence" / "benchmark"
    assert {path.name for path in committed.iterdir()} == {p.name for p in tmp_path.iterdir()}
    for path in [*tmp_path.glob("*.csv"), tmp_path / "numbers.rst"]:
        assert path.read_text("utf-8") == (committed / path.name).read_text("utf-8")
    for name in [n for n in sys.modules if n.partition("_")[0] == "benchmark"]:
        del sys.modules[name]


def test_pages_claim_what_the_benchmark_says():
    committed = GUIDE.parent / "evidence" / "benchmark"
    aims = {row[0]: row[3] for row in lines(committed / "aims.csv") if row[0]}
    assert aims["4"] == "no"
    summary = {row[0]: row[1:6] for row in lines(committed / "summary.csv")[1:]}
    on_standard, on_trivial = (
        sides(summary[pair])
        for pair in (
            "standard+default − standard",
            "trivial_augment+default − trivial_augment",
        )
    )
    targeted = sides(lines(committed / "targeting.csv")[1][1:6])
    # ROC AUC, balanced accuracy, NLL, corrupted ROC AUC, PGD.
    assert "better" not in targeted
    assert on_trivial == ["worse", "", "", "worse", ""]
    assert on_standard == ["", "", "better", "worse", ""]
    against_none = {row[0]: sides(row[1:6]) for row in lines(committed / "augmentations.csv")[1:]}
    assert all("better" not in found[:2] for found in against_none.values())
    # The guide to augmentation: not more robust to corruption, nor to attacks.
    assert "better" not in against_none["standard − plain"][3:]
    assert against_none["trivial_augment − plain"] == ["", "", "better", "better", "better"]
    for page in (EXAMPLES.parent / "README.md", GUIDE.parent / "evidence.rst"):
        text = " ".join(page.read_text("utf-8").split())
        assert "trained classifiers no better than images displaced at random" in text
        assert "no augmentation made classifiers more accurate" in text.lower()
        assert "TrivialAugment improved their probabilities and made them more robust" in text


def sides(found):
    """Say of each difference which side it is on, if it is found: NLL, the third, is lower."""
    words = {"**+": ("better", "worse"), "**−": ("worse", "better")}
    return [words.get(text[:3], ("", ""))[k == 2] for k, text in enumerate(found)]


def test_committed_attempts_follow_from_the_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import method_attempts

    table = tmp_path / "attempts.csv"
    method_attempts.report(Namespace(out=method_attempts.CSV, table=table))
    assert lines(table) == lines(GUIDE.parent / "evidence" / table.name)
    del sys.modules["method_attempts"]


class TestVerdict:
    def test_committed_table_follows_from_the_benchmark(self, verdict, tmp_path):
        table = tmp_path / "verdicts.csv"
        verdict.report(Namespace(out=EXAMPLES / "benchmark_verdict.csv", table=table))
        assert lines(table) == lines(GUIDE / table.name)

    def test_what_does_nothing_is_hardly_ever_said_to_help(self, verdict):
        rows = verdict.read(EXAMPLES / "benchmark_verdict.csv")
        said = [row["verdict"] for row in rows if row["set"] == "nothing"]
        assert len(said) == 20
        assert said.count("helps") <= 1
