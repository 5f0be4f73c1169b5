"""The report on the MedMNIST benchmark says what its committed tables hold."""

import csv
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

EXAMPLES = Path(__file__).parents[1] / "examples"
EVIDENCE = EXAMPLES.parent / "docs" / "evidence"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def importable():
    """The report's files import each other by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield
    for name in [n for n in sys.modules if n.startswith("medmnist_")]:
        if (EXAMPLES / f"{name}.py").exists():
            del sys.modules[name]


@pytest.fixture(scope="module")
def statistics(importable):
    import medmnist_statistics

    return medmnist_statistics


@pytest.fixture(scope="module")
def report(importable):
    pytest.importorskip("matplotlib")
    import medmnist_report

    return medmnist_report


class TestStatistics:
    def test_one_cell_has_students_interval(self, statistics):
        ours, theirs = np.array([0.9, 0.8, 0.85, 0.7]), np.array([0.8, 0.75, 0.85, 0.72])
        estimate = statistics.mean_of_samples([ours - theirs])
        known = stats.ttest_rel(ours, theirs)
        low, high = known.confidence_interval(0.95)
        assert estimate[:4] == pytest.approx((0.0325, low, high, known.pvalue))

    def test_two_cells_have_welchs_interval(self, statistics):
        first, second = np.array([1.0, 3.0, 2.5]), np.array([2.0, 6.0])
        estimate = statistics.mean_of_samples([first, second])
        # The mean of two means is half the difference of one and the other's negative.
        known = stats.ttest_ind(first, -second, equal_var=False)
        low, high = known.confidence_interval(0.95)
        assert estimate[:4] == pytest.approx(((6.5 / 3 + 4) / 2, low / 2, high / 2, known.pvalue))

    def test_single_seeds_say_nothing_about_spread(self, statistics):
        alone = statistics.mean_of_samples([np.array([0.5])])
        assert (alone.mean, alone.n_samples) == (0.5, 1)
        assert math.isnan(alone.low)
        assert not alone.is_above
        assert not alone.is_below
        sample = np.array([0.1, 0.3])
        both = statistics.mean_of_samples([sample, np.array([0.5]), np.array([])])
        assert both == statistics.mean_of_samples([sample])
        assert statistics.mean_of_samples([np.array([])]) is None

    def test_holm(self, statistics):
        corrected = statistics.holm([0.01, 0.04, math.nan, 0.03, 0.5])
        assert corrected[:2] == pytest.approx([0.04, 0.09])
        assert math.isnan(corrected[2])
        assert corrected[3:] == pytest.approx([0.09, 0.5])

    def test_pairs_are_those_of_common_seeds(self, statistics):
        rows = table_rows({"plain": [0.5, 0.6, 0.7], "mixup": [0.6, 0.8]})
        results = statistics.Results(rows)
        pairs = results.paired(("few", "50"), "mixup", "plain", "roc_auc")
        assert pairs == pytest.approx({0: 0.1, 1: 0.2})
        assert results.missing() == ["few 50: 1 of 6 runs"]

    def test_cells_of_a_data_set_are_averaged_seed_by_seed(self, statistics):
        # The larger training sets of a seed contain the smaller: cells are no independent draws.
        small, large = [0.1, 0.3, 0.5], [0.3, 0.1, 0.2, 0.9]
        rows = []
        for size, values in (("50", small), ("100", large)):
            rows += table_rows({"plain": [0.0] * len(values), "mixup": values}, size=size)
        rows += table_rows({"plain": [0.0] * 2, "mixup": [0.4, 0.6]}, dataset="other")
        results = statistics.Results(rows)
        estimate = results.compare("mixup", "plain", "roc_auc", results.low_data)
        expected = [np.array([0.2, 0.2, 0.35]), np.array([0.4, 0.6])]
        assert estimate == pytest.approx(statistics.mean_of_samples(expected))
        assert estimate.n_samples == 2

    def test_equal_arms_share_ranks(self, statistics):
        rows = table_rows({"a": [0.5, 0.7], "b": [0.9, 0.9], "c": [0.7, 0.5], "d": [0.1, 0.2]})
        ranks = statistics.Results(rows).ranks(["a", "b", "c", "d"], "roc_auc")
        assert ranks[("few", "50")].tolist() == [2.5, 1, 2.5, 4]


def table_rows(arms, dataset="few", size="50", **columns):
    """Rows of a table, from one metric of each arm, seed by seed."""
    return [
        {
            "dataset": dataset,
            "size": size,
            "seed": str(seed),
            "arm": arm,
            "roc_auc": str(value),
            "perturbed_roc_auc": str(value - 0.1),
            "pgd_2_accuracy": str(value / 2),
            "seconds": str(10 * (1 + i)),
            "made_with": "numpy 2",
            **columns,
        }
        for i, (arm, values) in enumerate(arms.items())
        for seed, value in enumerate(values)
    ]


PLAIN, STANDARD = [0.60, 0.70, 0.65], [0.70, 0.72, 0.71]
TARGETED = [0.72, 0.76, 0.77]


def small_tables(folder):
    """Write tables of few cells, arms and seeds."""
    arms = {"plain": PLAIN, "standard": STANDARD, "standard+mutual_info": TARGETED}
    worse = {arm: [value - 0.1 for value in values] for arm, values in arms.items()}
    main = [*table_rows(arms), *table_rows(arms, size="all")]
    main += [*table_rows(worse, dataset="other"), *table_rows(worse, dataset="other", size="all")]
    attacks = table_rows(arms, size="100")
    for row in attacks:
        row["autoattack_2_accuracy"] = str(float(row["pgd_2_accuracy"]) - 0.05)
    base = table_rows({"standard+mutual_info": TARGETED}, setting="radius=0.5; batches=together")
    small = table_rows({"radius=0.25": STANDARD}, setting="radius=0.25")
    for name, rows in (
        ("medmnist", main),
        ("attacks", attacks),
        ("ablations", [*base, *small]),
    ):
        write(folder / f"benchmark_{name}.csv", rows)


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row))
        writer.writeheader()
        writer.writerows(rows)


def lines(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def numbers(folder):
    found = {}
    for line in (folder / "numbers.rst").read_text(encoding="utf-8").splitlines():
        name, separator, value = line.removeprefix(".. |").partition("| replace:: ")
        if separator:
            found[name] = value
    return found


@pytest.fixture(scope="module")
def reported(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    small_tables(folder)
    said = report.write_report(folder, folder / "evidence")
    return folder / "evidence", said


class TestReport:
    def test_numbers_are_those_computed_by_hand(self, reported):
        found = numbers(reported[0])
        # Differences 0.02, 0.04, 0.06 in one cell: 0.04 ± 4.303 * 0.02 / sqrt(3).
        cell = "standard+mutual_info/standard/roc_auc/few-50"
        assert found[cell] == "+0.040 [−0.010, +0.090]"
        # In two data sets: 0.04 ± 2.776 * 0.02 / sqrt(6), for they have four degrees of freedom.
        low = "standard+mutual_info/standard/{}/low"
        assert found[low.format("roc_auc")] == "+0.040 [+0.017, +0.063]"
        assert found[low.format("pgd_2_accuracy")] == "+0.020 [+0.009, +0.031]"
        # All labels, in two data sets as well; values are those of few labels.
        assert found[low.format("roc_auc").replace("low", "all")] == found[low.format("roc_auc")]
        assert found["score/standard/roc_auc/low"] == "0.660"
        assert found["seconds/standard+mutual_info/low"] == "3.0"
        assert found["ranks/standard+mutual_info"] == "1.00"
        assert found["ranks/cells"] == "4"
        assert found["clean/standard+mutual_info/cells"] == "4"
        assert found["clean/standard+mutual_info/below"] == "0"
        assert found["medmnist/runs"] == "36"
        assert found["medmnist/made_with"] == "numpy 2"
        assert found["missing"] == "nothing"

    def test_tables_hold_the_same_numbers(self, reported):
        head, first, *_ = lines(reported[0] / "on_standard_means.csv")
        assert head == ["", "standard+mutual_info − standard"]
        # Three metrics are tested, all with p = 0.008.
        assert first == ["clean ROC AUC", "**+0.040** [+0.017, +0.063]"]
        _, first, *_ = lines(reported[0] / "all_labels.csv")
        assert first == ["clean ROC AUC", "**+0.040** [+0.017, +0.063]"]
        table = lines(reported[0] / "ranks.csv")
        assert [row[0] for row in table[1:]] == ["standard+mutual_info", "standard", "plain"]
        (radius,) = [r for r in lines(reported[0] / "ablations.csv") if r[1] == "0.25"]
        assert radius[2] == "−0.040 [−0.090, +0.010]"

    def test_stronger_attacks_stand_beside_weaker_ones(self, reported):
        head, plain, *_ = lines(reported[0] / "attacks.csv")
        assert head[1:] == ["arm", "strength / 255", "PGD", "AutoAttack"]
        assert plain == ["few, 100", "plain", "2", "0.325", "0.275"]

    def test_aims_are_checked(self, reported):
        table = {row[1]: row[2:] for row in lines(reported[0] / "aims.csv")}
        assert table["clean ROC AUC, few labels: standard+mutual_info − standard > 0"] == [
            "+0.040 [+0.017, +0.063]",
            "yes",
        ]
        assert table["above standard in at least 3 of 3"] == ["3 of 3", "yes"]
        assert table["above standard+random in at least 2 of 3"] == ["0 of 3", "not measured"]

    def test_objectives_are_compared_where_all_else_is_the_same(self, report, tmp_path):
        base = ["members=dropout; defaults=old", "members_entropy=dropout; defaults_entropy=old"]
        rows = [
            *table_rows({"standard+mutual_info": TARGETED}, setting=base[0]),
            *table_rows({"standard+entropy": PLAIN}, setting=base[1]),
        ]
        for setting, values in {
            "members=laplace": TARGETED,
            "members_entropy=laplace": STANDARD,
            "members=alone": PLAIN,
            "defaults=new": STANDARD,
            "defaults_entropy=new": PLAIN,
        }.items():
            rows += table_rows({setting: values}, setting=setting)
        write(tmp_path / "benchmark_ablations.csv", rows)
        report.write_report(tmp_path, tmp_path / "evidence")
        table = lines(tmp_path / "evidence" / "members.csv")
        assert [row[:2] for row in table] == [
            ["under", "clean ROC AUC"],
            ["dropout", "+0.100 [+0.014, +0.186]"],
            ["laplace", "+0.040 [−0.010, +0.090]"],
            ["new", "+0.060 [−0.039, +0.159]"],
        ]

    def test_differences_that_hold_after_correction_are_named(self, reported):
        held = numbers(reported[0])["held/standard+mutual_info/standard"]
        assert held == "clean ROC AUC; corrupted ROC AUC; accuracy, PGD 2/255"

    def test_aims_rank_planned_arms_and_count_cells_that_have_an_interval(self, report, tmp_path):
        arms = {"plain": PLAIN, "standard+mutual_info": [0.5, 0.6, 0.5], "random": STANDARD}
        arms["mutual_info"] = TARGETED
        arms["trivial_augment+mutual_info"] = [0.9, 0.9, 0.9]
        alone = {arm: values[:1] for arm, values in arms.items()}
        rows = [*table_rows(arms), *table_rows(alone, size="all")]
        write(tmp_path / "benchmark_medmnist.csv", rows)
        report.write_report(tmp_path, tmp_path / "evidence")
        table = {row[1]: row[2:] for row in lines(tmp_path / "evidence" / "aims.csv")}
        rank = "best mean rank among the planned arms that do not train on attacks"
        assert table[f"{rank}: mean of the three metrics"] == ["mutual_info (1.00, 2 cells)", "yes"]
        clean = "clean ROC AUC, {} below plain, interval below zero: in no cell"
        text = "{0} of 1 cells, {0} after Holm's correction; 1 more have a single seed"
        assert table[clean.format("standard+mutual_info")] == [text.format(1), "no"]
        # A cell without an interval can tell nothing against it, nor for it.
        assert table[clean.format("mutual_info")] == [text.format(0), "not known"]

    def test_figures_are_drawn(self, reported):
        names = {path.name for path in reported[0].glob("*.png")}
        assert names >= {"arms.png", "on_standard.png", "ranks.png", "clean_and_attacked.png"}
        assert names >= {"attacks_2.png", "ablation_radius.png"}
        # There is no arm with random displacement to compare with.
        assert "on_random.png" not in names

    def test_the_same_tables_give_the_same_files(self, report, reported, tmp_path):
        report.write_report(reported[0].parent, tmp_path)
        first, second = (
            {path.name: path.read_bytes() for path in folder.iterdir()}
            for folder in (reported[0], tmp_path)
        )
        assert first == second


@pytest.mark.skipif(not EVIDENCE.exists(), reason="the documentation is not here")
def test_committed_tables_are_what_committed_results_give(report, monkeypatch, tmp_path):
    for name in ("forest", "overview", "scatter", "heat_map", "survival"):
        monkeypatch.setattr(report.figures, name, lambda *arguments: None)
    report.write_report(EXAMPLES, tmp_path)
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    committed = [*EVIDENCE.glob("*.csv"), *EVIDENCE.glob("*.rst")]
    assert {path.name for path in committed} == written.keys()
    for path in committed:
        assert path.read_text(encoding="utf-8") == written[path.name], path.name


class TestMissing:
    def test_missing_runs_cells_and_files_are_told(self, report, tmp_path):
        rows = [
            *table_rows({"plain": PLAIN, "random": STANDARD[:2]}),
            *table_rows({"plain": PLAIN}, size="100"),
            *table_rows({"plain": PLAIN, "random": STANDARD}, "other"),
        ]
        write(tmp_path / "benchmark_medmnist.csv", rows)
        said = report.write_report(tmp_path, tmp_path / "evidence")
        assert said[:-1] == [
            "missing: benchmark_attacks.csv: the file",
            "missing: benchmark_ablations.csv: the file",
            "missing: benchmark_medmnist.csv: few 50: 1 of 6 runs",
            "missing: benchmark_medmnist.csv: few 100: 3 of 6 runs",
            "missing: benchmark_medmnist.csv: other 100: all runs",
        ]
        found = numbers(tmp_path / "evidence")
        assert found["random/plain/roc_auc/other-50"] == "+0.060 [−0.039, +0.159]"
        assert "few 50: 1 of 6 runs" in found["missing"]
        assert found["ranks/cells"] == "2"

    def test_without_any_table_all_is_missing(self, report, tmp_path):
        said = report.write_report(tmp_path, tmp_path / "evidence")
        assert len([line for line in said if line.startswith("missing")]) == 3
        table = lines(tmp_path / "evidence" / "aims.csv")[1:]
        assert {row[3] for row in table if row[2] == "–"} == {"not measured"}

    def test_what_an_earlier_report_drew_does_not_stay(self, report, tmp_path):
        small_tables(tmp_path)
        folder = tmp_path / "evidence"
        folder.mkdir()
        for name in ("on_random.png", "members.csv"):
            (folder / name).write_text("old")
        report.write_report(tmp_path, folder)
        assert not (folder / "on_random.png").exists()
        assert not (folder / "members.csv").exists()
