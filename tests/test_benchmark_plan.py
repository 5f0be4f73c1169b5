"""The benchmark goes on where it was interrupted, and its report computes what it says."""

import csv
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.comparison import ComparisonResult, Difference, compare
from tsynd_sk.comparison._runs import predicted_scores
from tsynd_sk.datasets import load_digits_images

EXAMPLES = Path(__file__).parents[1] / "examples"
SCORES = ("roc_auc", "balanced_accuracy", "nll", "expected_calibration_error")


@pytest.fixture(scope="module", autouse=True)
def importable():
    """The files of the benchmark import each other by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield
    for name in [n for n in sys.modules if n.partition("_")[0] == "benchmark"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def plan(importable):
    import benchmark_plan

    return benchmark_plan


@pytest.fixture(scope="module")
def benchmark(importable):
    import benchmark

    return benchmark


@pytest.fixture(scope="module")
def results(importable):
    import benchmark_results

    return benchmark_results


@pytest.fixture(scope="module")
def report(importable):
    pytest.importorskip("matplotlib")
    import benchmark_report

    return benchmark_report


class TestPlan:
    def test_the_new_default_is_the_librarys(self, plan):
        params = TargetedSynthesizer().get_params(deep=False)
        told = {"objective": plan.NEW_DEFAULT["objective"], **plan.NEW_DEFAULT["synthesizer"]}
        assert {name: params[name] for name in told} == told
        arms = plan.PAIRS
        assert arms[plan.ON_STANDARD].without_synthesis() == arms[plan.STANDARD]
        assert arms[plan.ON_TRIVIAL].without_synthesis() == arms[plan.TRIVIAL]

    def test_no_arm_lacks_its_twin(self, plan):
        # The comparison would add one that the plan does not know.
        for cell in plan.CELLS.values():
            for arm in cell.arms.values():
                if arm.objective:
                    assert arm.without_synthesis() in cell.arms.values()

    def test_a_stopped_benchmark_has_all_sets(self, plan, benchmark):
        ordered = list(benchmark.units(plan.CELLS.values()))
        assert [cell.dataset for cell, _ in ordered[:6]] == list(plan.SETS)
        assert [draw for _, draw in ordered] == sorted(draw for _, draw in ordered)
        assert len(ordered) == sum(cell.draws for cell in plan.CELLS.values())

    def test_committed_rows_are_the_plans(self, benchmark):
        if not benchmark.CSV.exists():
            pytest.skip("the benchmark has not been run yet")
        rows = benchmark.read(benchmark.CSV)
        predictions = np.load(benchmark.probabilities_of(benchmark.CSV))
        names = {f"{row['cell']}/{row['draw']}/{row['arm']}" for row in rows}
        assert len(names) == len(rows)
        assert names == {name for name in predictions if not name.endswith("/labels")}


def write_set(folder):
    """Write a set in which a test image, and a repeat, stand among the training images."""
    X, y, _ = load_digits_images()
    X, y = (255 * X).round().astype(np.uint8), (y > 4).astype(np.uint8)
    X_train, y_train = X[:60].copy(), y[:60].copy()
    X_train[0], y_train[0] = X[100], y[100]
    X_train[1], y_train[1] = X_train[2], y_train[2]
    np.savez(
        folder / "breastmnist.npz",
        train_images=X_train,
        train_labels=y_train[:, None],
        val_images=X[60:80],
        val_labels=y[60:80, None],
        test_images=X[100:130],
        test_labels=y[100:130, None],
    )


@pytest.fixture
def small(benchmark, plan, monkeypatch, tmp_path):
    """One cell of two arms and two draws, and options of a run of it."""
    write_set(tmp_path)
    arms = {name: plan.ALL[name] for name in ("plain", "standard")}
    cell = plan.Cell("breast", plan.DEFAULT_NET, 30, arms, 2, eps=(), n_attacked=8)
    monkeypatch.setitem(plan.CELLS, cell.name, cell)
    network = benchmark.network

    def briefly(cell, X, y, max_epochs=2):
        return network(cell, X, y, max_epochs).set_params(module__width=4)

    monkeypatch.setattr(benchmark, "network", briefly)
    options = benchmark.argparse.Namespace(
        root=tmp_path,
        cells=[cell],
        draws=None,
        n_jobs=None,
        out=tmp_path / "out",
        table=tmp_path / "rows.csv",
        repeat=cell.name,
    )
    return cell, options


class TestRun:
    def test_it_goes_on_with_what_is_missing(self, benchmark, small, monkeypatch, capsys):
        cell, options = small
        seen = []

        def stop_after_one(*arguments, **keywords):
            if seen:
                raise InterruptedError
            seen.append(keywords)
            return compare(*arguments, **keywords)

        monkeypatch.setattr(benchmark, "compare", stop_after_one)
        with pytest.raises(InterruptedError):
            benchmark.run(options)
        first = benchmark.read(options.table)
        assert [(row["arm"], row["draw"]) for row in first] == [("plain", "0"), ("standard", "0")]
        assert benchmark.missing(benchmark.units([cell]), first) == [(cell, 1)]
        seen.clear()
        benchmark.run(options)
        (made,) = seen
        assert made["random_state"] == 1
        rows = benchmark.read(options.table)
        assert rows[:2] == first
        assert [row["draw"] for row in rows] == ["0", "0", "1", "1"]
        # All are there: nothing is trained.
        benchmark.run(options)
        assert len(seen) == 1
        row = rows[-1]
        assert (row["reference"], row["n_train"], row["n_test"]) == ("plain", "30", "30")
        assert row["definition"] == '{"augmentation": "standard"}'
        assert "cores" in row["machine"]
        assert "tsynd_sk" in row["made_with"]
        kept = np.load(benchmark.probabilities_of(options.table))
        proba = kept[f"{cell.name}/1/standard"].astype(float)
        scores = predicted_scores(kept["breast/labels"].astype(int), proba)
        assert {n: f"{float(v[0]):.6g}" for n, v in scores.items()} == {n: row[n] for n in SCORES}
        # One command repeats a draw, and finds its numbers.
        seen.clear()
        capsys.readouterr()
        benchmark.repeat(options)
        now, then = (
            capsys.readouterr().out.split("plain, roc_auc: ")[1].split("\n")[0].split(", ")[:2]
        )
        assert now == then

    def test_leaks_and_repeats_are_left_out(self, benchmark, small):
        X, y, is_test = benchmark.images(small[1].root, "breast", test=True)
        assert is_test.sum() == 30
        own, scored = ({x.tobytes() for x in X[side]} for side in (~is_test, is_test))
        assert not own & scored
        assert len(own) == (~is_test).sum() == 58
        assert len(y) == 88

    def test_trials_do_not_open_the_test_split(self, benchmark, small):
        cell, options = small
        path = options.root / "breastmnist.npz"
        with np.load(path) as file:
            arrays = dict(file)
        arrays["test_images"] = np.full_like(arrays["test_images"], 255)
        np.savez(path, **arrays)
        X, _, is_test = benchmark.images(options.root, "breast", test=False)
        assert not is_test.any()
        assert not (X == 255).all((1, 2)).any()
        # Two of 60 training images are equal.
        result = benchmark.trial(cell, options.root, 4, n_attacked=None)
        assert len(result.codes) == len(X) == 59
        assert len(np.intersect1d(result.train_rows[0], result.test_rows[0])) == 0

    def test_rows_of_another_plan_are_refused(self, benchmark, plan, tmp_path):
        cell = plan.CELLS["breast-50"]
        row = {"cell": cell.name, "arm": "mixup", "definition": '{"augmentation": "smote"}'}
        write(tmp_path / "rows.csv", [row])
        with pytest.raises(ValueError, match=r"'mixup', which benchmark_plan\.py"):
            benchmark.read(tmp_path / "rows.csv")


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row))
        writer.writeheader()
        writer.writerows(rows)


def lines(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


SECONDS = {"plain": 10.0, "standard": 12.0}


def made_up(benchmark, plan, folder, gains, n_test=40, attacked=0.05, seconds=None):
    """Write rows of the plan with predictions that arms improve by a gain each."""
    rows, kept = [], {}
    n_classes = 3
    codes = np.arange(n_test) % n_classes
    seconds = {**SECONDS, **(seconds or {})}
    for cell, draw in benchmark.units(plan.CELLS.values()):
        kept[f"{cell.dataset}/labels"] = codes.astype(np.int16)
        seed = sum(map(ord, cell.dataset)) + draw
        for arm in cell.arms:
            rng = np.random.default_rng(seed)
            logits = rng.normal(size=(n_test, n_classes))
            gain = gains.get(arm, 0.0) + 0.1 * rng.normal()
            logits[np.arange(n_test), codes] += 0.5 + gain
            proba = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            kept[f"{cell.name}/{draw}/{arm}"] = proba
            scores = predicted_scores(codes, proba)
            row = {"cell": cell.name, "draw": draw, "arm": arm, "machine": "m", "made_with": "v"}
            row |= {name: float(values[0]) for name, values in scores.items()}
            # Differences grow with draws, in some data sets more than in others.
            growth = 1 + 0.1 * draw * len(cell.dataset)
            row["perturbed_roc_auc"] = 0.6 + 0.02 * gains.get(arm, 0.0) * growth
            row["pgd_2_accuracy"] = 0.3 + attacked * gains.get(arm, 0.0) * (1 + 0.1 * draw)
            row["pgd_4_accuracy"] = row["pgd_2_accuracy"] / 2
            if cell.kind == "autoattack":
                row["autoattack_2_accuracy"] = row["pgd_2_accuracy"] - 0.05
            row |= {"seconds": seconds.get(arm, 15.0), "seconds_scoring": 1.0, "steps": 1375}
            row |= {"converged": arm != "mixup", "definition": benchmark.definition(cell, arm)}
            rows.append(row)
    write(folder / "rows.csv", rows)
    np.savez(folder / "rows_probabilities.npz", **kept)
    return folder / "rows.csv"


GAINS = {"standard+default": 0.5, "trivial_augment+default": 0.5, "standard+random": 0.2}


@pytest.fixture(scope="module")
def table(benchmark, plan, tmp_path_factory):
    return made_up(benchmark, plan, tmp_path_factory.mktemp("rows"), GAINS)


@pytest.fixture(scope="module")
def found(results, table):
    return results.Results(table)


class TestDifferences:
    @pytest.mark.parametrize("score", ["roc_auc", "nll", "pgd_2_accuracy"])
    def test_of_one_cell_it_is_the_comparisons(self, found, results, plan, score):
        cell, arms = plan.CELLS["chest-100"], ("standard+default", "standard")
        rows, proba = [], {}
        for (name, arm, draw), row in found.rows.items():
            if name == cell.name and arm in arms:
                scored = {k: float(row[k]) for k in (*SCORES, "pgd_2_accuracy")}
                rows.append({"run": draw, "arm": arm, **scored})
                proba[draw, arm] = found.predictions[f"{name}/{draw}/{arm}"]
        codes = found.predictions["chest/labels"].astype(int)
        test = [np.arange(len(codes))] * cell.draws
        theirs = ComparisonResult(
            {arm: cell.arms[arm] for arm in arms},
            {},
            rows,
            proba,
            train_rows=test,
            test_rows=test,
            codes=codes,
            classes=np.unique(codes),
        ).difference(*arms, score)
        ours = found.compare(results.Pair(*arms), score, results.of_set("chest"))
        assert (ours.mean, ours.low, ours.high, ours.p) == pytest.approx(
            (theirs.mean, theirs.low, theirs.high, theirs.p), rel=1e-6
        )
        assert ours.low < ours.mean < ours.high

    def test_cells_of_a_set_are_averaged_draw_by_draw(self, found, results, plan):
        pair, score = results.Pair("standard+default", "standard"), "pgd_2_accuracy"
        each = []
        for name in ("breast-50", "breast-250"):
            arm, reference = (found.values(name, a, score) for a in (pair.arm, pair.reference))
            each.append([arm[draw] - reference[draw] for draw in range(5)])
        d = found.compare(pair, score, results.of_set("breast"))
        known = stats.ttest_1samp(np.mean(each, axis=0), 0)
        low, high = known.confidence_interval(0.95)
        assert (d.mean, d.low, d.high, d.p) == pytest.approx(
            (np.mean(each), low, high, known.pvalue)
        )

    def test_data_sets_are_joined_by_their_variances(self, found, results):
        pair, score = results.Pair("standard+random", "standard"), "perturbed_roc_auc"
        samples = []
        for name in ("chest", "brain", "textures"):
            arm, reference = (
                found.values(f"{name}-100", a, score) for a in ("standard+random", "standard")
            )
            samples.append(np.array([arm[k] - reference[k] for k in range(5)]))
        d = found.compare(pair, score, results.LARGE)
        variances = np.array([s.var(ddof=1) / 5 for s in samples])
        freedom = variances.sum() ** 2 / (variances**2 / 4).sum()
        width = stats.t.ppf(0.975, freedom) * math.sqrt(variances.sum()) / 3
        assert (d.mean, d.high - d.mean) == pytest.approx((np.mean(samples), width))

    def test_a_single_draw_has_no_interval(self, results, benchmark, table, tmp_path):
        rows = [row for row in benchmark.read(table) if row["draw"] == "0"]
        write(tmp_path / "rows.csv", rows)
        (tmp_path / "rows_probabilities.npz").write_bytes(
            benchmark.probabilities_of(table).read_bytes()
        )
        one = results.Results(tmp_path / "rows.csv")
        pair = results.Pair("standard+default", "standard")
        d = one.compare(pair, "roc_auc", results.LARGE)
        assert math.isnan(d.low)
        assert results.text(d).count("[") == 0
        assert one.compare(results.Pair("smote", "plain"), "roc_auc", results.LARGE) is None


def reached(folder):
    return {row[0]: row[3] for row in lines(folder / "aims.csv") if row[0]}


class TestAims:
    @pytest.mark.parametrize(
        ("mean", "p", "reached"),
        [
            (-0.009, 0.5, "yes"),
            (-0.011, 0.5, "no"),
            (-0.005, 0.004, "no"),
            # Not found after correction for twelve tests.
            (-0.005, 0.02, "yes"),
            (0.02, 0.001, "yes"),
            (-0.005, math.nan, "not decided"),
        ],
    )
    def test_harm_is_a_lower_mean_or_a_loss_that_is_found(self, report, mean, p, reached):
        verdicts = [row[2] for row in report._harm(One("roc_auc", "brain", mean, p), report.SETS)]
        # Two pairs, in ROC AUC and in balanced accuracy; one of these pairs differs.
        assert verdicts == [reached, "yes", "yes", "yes"]

    @pytest.mark.parametrize(
        ("score", "mean", "reached"),
        [
            ("balanced_accuracy", 0.3, "yes"),
            ("balanced_accuracy", 0.05, "no"),
            ("nll", -0.3, "yes"),
            ("nll", 0.3, "no"),
        ],
    )
    def test_gains_are_clear_of_zero_on_the_better_side(self, report, score, mean, reached):
        (row,) = report._gains(One(score, "28 pixels", mean, 0.5), (report.SMALL,), (score,))
        assert row[2] == reached

    @pytest.mark.parametrize(
        ("mean", "ratio", "reached"),
        [(0.3, 1.1, "yes"), (0.3, 1.11, "no"), (0.05, 1.0, "no"), (-0.3, 1.0, "no")],
    )
    def test_targeting_has_to_gain_at_equal_cost(self, report, mean, ratio, reached):
        results = One("roc_auc", report.ALL.name, mean, 0.5, ratio)
        verdicts = {row[0]: row[3] for row in report.aims(results, complete=True)}
        assert verdicts["4"] == reached
        verdicts = {row[0]: row[3] for row in report.aims(results, complete=False)}
        assert verdicts["4"] == f"{reached}, so far"

    @pytest.mark.parametrize(
        ("parts", "reached"),
        [(["yes", "not decided"], "not decided"), (["no", "not decided"], "no"), (["yes"], "yes")],
    )
    def test_one_part_that_fails_decides(self, report, monkeypatch, parts, reached):
        rows = [["what", "measured", part] for part in parts]
        monkeypatch.setattr(report, "_cost", lambda results: iter(rows))
        results = One("roc_auc", report.ALL.name, 0.3, 0.5)
        verdicts = {row[0]: row[3] for row in report.aims(results, complete=True)}
        assert verdicts["5"] == reached


class One:
    """Results in which a single difference is not zero: that of the first pair."""

    def __init__(self, score, place, mean, p, ratio=1.5):
        self.found, self.mean, self.p, self.ratio = (score, place), mean, p, ratio

    def compare(self, pair, score, place):
        given = (score, place.name) == self.found and pair.arm == "standard+default"
        mean, p = (self.mean, self.p) if given else (0.0, 1.0)
        return Difference(pair.arm, pair.reference, score, mean, mean - 0.1, mean + 0.1, p)

    def ratios(self, arm, place, reference):
        return [self.ratio]


@pytest.fixture
def quick(results, report, monkeypatch):
    """Few resamples and no figures."""
    drawn = results.resampled_images
    monkeypatch.setattr(
        results, "resampled_images", lambda *given, **named: drawn(*given, **named)[:, :50]
    )
    monkeypatch.setattr(report, "draw", lambda *given: None)


@pytest.mark.usefixtures("quick")
class TestReport:
    def test_it_is_made_of_the_rows_alone(self, report, table, tmp_path):
        said = report.write_report(table, tmp_path)
        assert len(said) == 1
        assert reached(tmp_path) | {"aim": ""} == {
            **{"aim": "", "1": "yes", "2": "yes", "3": "yes", "4": "yes"},
            **{"5": "yes", "6": "yes"},
        }
        measured = {row[1]: row[2] for row in lines(tmp_path / "aims.csv")}
        assert measured["time, 28 pixels: standard+default / plain"] == "1.50"
        numbers = (tmp_path / "numbers.rst").read_text(encoding="utf-8")
        assert ".. |trainings| replace:: 636" in numbers
        assert ".. |planned| replace:: 636" in numbers
        assert ".. |draws| replace:: 5" in numbers
        assert ".. |aim 4| replace:: yes" in numbers
        assert ".. |cost/standard+default/28 pixels| replace:: 1.50" in numbers
        summary = lines(tmp_path / "summary.csv")
        assert [row[0] for row in summary[1:]] == [
            "trivial_augment − standard",
            "standard+random − standard",
            "standard+mutual_info, paper − standard",
            "standard+default − standard",
            "trivial_augment+default − trivial_augment",
        ]
        by_name = {row[0]: dict(zip(summary[0], row, strict=True)) for row in summary[1:]}
        attacked = by_name["standard+default − standard"]["PGD 2/255"]
        assert attacked.startswith("**+0.030** [")
        assert by_name["trivial_augment − standard"]["PGD 2/255"].startswith("+0.000")
        assert by_name["standard+default − standard"]["time"] == "1.50"
        (mixup,) = [r for r in lines(tmp_path / "scores.csv") if r[:2] == ["28 pixels", "mixup"]]
        assert mixup[-1] == "0 of 30"
        cost = {row[0]: row[1:] for row in lines(tmp_path / "cost.csv")}
        # Fine-tuned networks have no plain training: their times are over standard's.
        assert cost["standard+default"] == ["1.50", "1.50", "1.25"]
        auto = lines(tmp_path / "autoattack.csv")
        assert auto[0][1:] == ["PGD 2/255", "AutoAttack 2/255"]
        assert auto[1][1] == auto[1][2] != "–"
        cells = {row[0]: row for row in lines(tmp_path / "cells.csv")}
        assert cells["breast-50"][-1] == "``python examples/benchmark.py --repeat breast-50``"

    def test_tables_are_told_in_words(self, report):
        head = ["", "ROC AUC", "NLL", "PGD 2/255", "balanced accuracy", "calibration error", "time"]
        row = ["a", "+0.1 [-1, 1]", "**-0.1** [-1, 1]", "**-0.1** [-1, 1]", "**+0.1** [-1, 1]"]
        said = report.in_words(head, [cell.replace("-", "−") for cell in [*row, "+0.2", "1.2"]])
        assert said == (
            "better in NLL and balanced accuracy; worse in PGD 2/255; "
            "no significant difference in ROC AUC; not decided in calibration error"
        )

    def test_figures(self, report, found, tmp_path):
        figures = sys.modules["benchmark_figures"]
        figures.forest(found, tmp_path / "forest.png")
        points = {"plain": (0.8, 0.2), "standard": (0.9, 0.3), "smote": (math.nan, 0.1)}
        figures.scatter(points, ("clean", "attacked"), tmp_path / "points.png")
        for path in tmp_path.iterdir():
            assert path.stat().st_size > 5000

    def test_harm_and_cost_are_told(self, report, benchmark, plan, tmp_path):
        gains = {**GAINS, "standard+default": -0.5}
        table = made_up(benchmark, plan, tmp_path, gains, seconds={"standard+default": 17.0})
        report.write_report(table, tmp_path / "evidence")
        assert list(reached(tmp_path / "evidence").values())[1:] == ["no"] * 6
        measured = {row[1]: row[2:] for row in lines(tmp_path / "evidence" / "aims.csv")}
        harmed, verdict = measured["ROC AUC, standard+default − standard: lowest of 6 sets"]
        assert harmed.endswith("harmed: breast; pneumonia; retina; chest; brain; textures")
        assert verdict == "no"
        kept = "ROC AUC, trivial_augment+default − trivial_augment: lowest of 6 sets"
        assert measured[kept][1] == "yes"

    def test_what_is_missing_is_named(self, report, benchmark, table, tmp_path):
        rows = [r for r in benchmark.read(table) if r["cell"] != "chest-100"]
        write(tmp_path / "rows.csv", rows)
        (tmp_path / "rows_probabilities.npz").write_bytes(
            benchmark.probabilities_of(table).read_bytes()
        )
        said = report.write_report(tmp_path / "rows.csv", tmp_path / "evidence")
        assert said[:-1] == [f"missing: chest-100, draw {draw}" for draw in range(5)]
        verdicts = reached(tmp_path / "evidence")
        assert verdicts["1"] == "not decided"
        assert verdicts["6"] == "yes, so far"

    def test_without_rows_all_is_missing(self, report, tmp_path):
        report.write_report(tmp_path / "rows.csv", tmp_path / "evidence")
        assert set(list(reached(tmp_path / "evidence").values())[1:]) == {"not decided"}
