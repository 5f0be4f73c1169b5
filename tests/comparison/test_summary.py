"""Table and verdict of a comparison, on results whose truth is known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.made_results import made, of_two_arms

from tsynd_sk.comparison import outcome_of

GAINS = {"standard": 0.5, "standard+random": 0.9, "standard+mutual_info": 0.1}


def flat(result):
    """Verdict in one line."""
    return " ".join(result.verdict.split())


class TestVerdict:
    @pytest.mark.parametrize("official", [True, False])
    def test_gains_and_harms_are_found(self, official):
        verdict = flat(made(GAINS, official=official))
        assert (
            "Over 5 seeds, in ROC AUC on clean images, `standard` is better than `plain`" in verdict
        )
        assert "`standard+random` is better than `standard` by +0.0" in verdict
        assert "`standard+mutual_info` is worse than `standard` by -0." in verdict
        assert "do not use it here" in verdict
        assert "Recommended: `standard+random`." in verdict
        assert "at 2.0 times its cost" in verdict

    def test_harm_alone_keeps_to_what_is_simple(self):
        verdict = flat(of_two_arms({"standard": -0.5}))
        assert "no arm is significantly better than its reference in ROC AUC" in verdict
        assert "stay with `plain`" in verdict
        assert "`standard` is worse than `plain` by -0." in verdict
        assert "Recommended" not in verdict

    @pytest.mark.parametrize("official", [True, False])
    def test_nothing_is_found_where_nothing_is(self, official):
        verdict = flat(made(official=official))
        assert verdict.startswith("Over 5 seeds, no arm is significantly better than its reference")
        assert "stay with `plain`" in verdict

    def test_few_of_many_comparisons_without_differences_recommend_an_arm(self):
        claims = [
            "Recommended" in made(official=k % 2 == 0, seed=k, n_test=120).verdict
            for k in range(40)
        ]
        assert sum(claims) <= 2

    def test_gains_over_a_bad_twin_are_no_recommendation(self):
        verdict = flat(made({"standard": -0.6, "standard+random": -0.3}))
        assert "`standard+random` is better than `standard`" in verdict
        assert "Recommended: `plain`; no arm is significantly better." in verdict

    @pytest.mark.parametrize(("targeted", "pays"), [(0.1, False), (0.9, False), (2.5, True)])
    def test_targeting_has_to_be_better_than_the_same_at_random(self, targeted, pays):
        for seed in range(4):
            result = made({**GAINS, "standard+mutual_info": targeted}, seed=seed)
            assert result.recommended == ("standard+mutual_info" if pays else "standard+random")
            said = "`standard+mutual_info` minus `standard+random` is"
            assert (f"Targeting does not pay here: {said}" in flat(result)) is not pays

    def test_neither_is_bought_where_neither_helps(self):
        assert "Targeting" not in made().verdict
        # Without its random twin, what is targeted is judged by its gain alone.
        names = ("plain", "standard", "standard+mutual_info")
        result = made({"standard+mutual_info": 0.9}, names=names)
        assert result.recommended == "standard+mutual_info"
        assert "Targeting" not in result.verdict

    def test_one_seed_decides_nothing(self):
        verdict = flat(made(GAINS, n_runs=1))
        assert verdict.startswith("One seed decides nothing")
        assert "better" not in verdict
        assert "Recommended" not in verdict

    def test_other_scores_are_said_of_each_arm(self):
        verdict = flat(made(GAINS))
        assert "`standard` is better calibrated (NLL -0." in verdict
        assert "more robust to corruption (+0." in verdict
        assert "`standard+mutual_info` is worse calibrated (NLL +0." in verdict
        assert "less robust to corruption" in verdict

    def test_another_primary_score_decides(self):
        verdict = flat(replace(made(GAINS), primary="nll"))
        assert "in NLL on clean images, `standard` is better than `plain` by -0." in verdict
        assert "Recommended: `standard+random`." in verdict
        assert "better in ROC AUC (+0." in verdict
        assert "better calibrated" not in verdict

    def test_what_did_not_converge_is_named(self):
        verdict = flat(made(late=("plain", "standard")))
        assert (
            "Not converged: `plain` and `standard`. The training loss was still falling" in verdict
        )
        assert "converged" not in made().verdict

    def test_what_diverged_needs_no_more_steps(self):
        losses = {(0, "plain"): [1.0, 0.5], (0, "standard"): [1.0, float("nan")]}
        verdict = flat(replace(made(late=("plain", "standard")), losses=losses))
        assert "Diverged: `standard`. The training loss became infinite or nan" in verdict
        assert "Not converged: `plain`. " in verdict

    @pytest.mark.parametrize("n_runs", [1, 3])
    def test_runs_that_differ_by_the_same_are_not_tested(self, n_runs):
        result = of_two_arms(n_runs=n_runs, official=False)
        for row in result.rows:
            row["roc_auc"] = 0.8 + 0.1 * (row["arm"] == "standard")
        verdict = flat(result)
        assert ("Not tested: `standard`. All runs differ" in verdict) == (n_runs > 1)
        assert "is better than `plain`" not in verdict
        assert result.recommended == ("plain" if n_runs > 1 else None)
        assert outcome_of(result)["differences"][0]["low"] is None

    def test_few_test_images_are_said(self):
        verdict = flat(made(n_test=24, n_classes=3))
        assert "Fewer than 10 test images of class 0, class 1, class 2: a single image" in verdict
        many = flat(made(n_test=24, n_classes=8))
        assert "class 3, class 4 and 3 more" in many
        assert "Fewer than 10" not in made().verdict

    def test_without_a_score_there_is_no_claim(self):
        result = made(GAINS)
        for row in result.rows:
            row["roc_auc"] = row["perturbed_roc_auc"] = np.nan
        assert flat(result).startswith(
            "There is no ROC AUC, because all test images are of one class"
        )
        assert "nan" not in result.summary()
        assert "Recommended" not in result.verdict


class TestTable:
    def lines(self, result):
        return {line.split()[0]: line.split() for line in result.summary().splitlines()[3:7]}

    @pytest.mark.parametrize("late", [(), ("standard+mutual_info",)])
    @pytest.mark.parametrize("primary", ["roc_auc", "nll", "balanced_accuracy"])
    def test_lines_fit_a_terminal(self, primary, late):
        result = replace(made(GAINS, late=late), primary=primary)
        assert max(map(len, result.summary().splitlines())) <= 80

    def test_differences_to_the_first_arm_and_to_the_twin(self):
        result = made(GAINS)
        lines = self.lines(result)
        means = {arm: result.values(arm, "roc_auc").mean() for arm in result.arms}
        assert lines["plain"][1] == f"{means['plain']:.3f}"
        gain = means["standard"] - means["plain"]
        assert lines["standard"][2] == f"{gain:+.3f}*"
        whole, over = (means["standard+random"] - means[arm] for arm in ("plain", "standard"))
        assert lines["standard+random"][2:4] == [f"{whole:+.3f}", f"{over:+.3f}*"]
        assert lines["standard+random"][-1] == "3.0x"
        assert len(lines["plain"]) == len(lines["standard"]) - 1

    def test_marks_are_explained(self):
        lines = self.lines(made(late=("standard",)))
        assert lines["standard"][1] == "!"
        assert "!: not converged." in made(late=("standard",)).summary()
        assert " !" not in made().summary()

    def test_one_seed_has_no_stars(self):
        summary = made(GAINS, n_runs=1).summary()
        assert "One seed; time" in summary
        assert "*" not in summary.split("*: significant")[0]

    def test_accuracies_under_attack_have_columns_of_their_own(self):
        result = made()
        for row in result.rows:
            row |= {"pgd_2_accuracy": 0.5, "pgd_2_balanced_accuracy": 0.25}
            row |= {"square_0.5_accuracy": 0.75, "gradient_masking": "x" * (row["run"] == 0)}
        summary = result.summary()
        assert summary.splitlines()[1].split()[-2:] == ["pgd", "square"]
        assert summary.splitlines()[2].split()[-3:] == ["2/255", "0.5/255", "time"]
        assert self.lines(result)["standard"][-3:-1] == ["0.500", "0.750"]
        assert "Gradients seem masked in 4 runs" in summary


class TestOutcome:
    def test_is_what_the_result_says(self):
        result = made(GAINS, late=("standard",))
        found = outcome_of(result)
        assert found == json.loads(json.dumps(found, allow_nan=False))
        assert (found["primary"], found["n_runs"]) == ("roc_auc", 5)
        assert found["recommended"] == "standard+random"
        assert " ".join([*found["verdict"], *found["doubts"]]) == flat(result)
        assert found["doubts"][0].startswith("Not converged: `standard`")
        arm = found["arms"]["standard"]
        assert (arm["reference"], arm["converged"], arm["seconds"]) == ("plain", False, 20.0)
        assert arm["scores"]["nll"] == pytest.approx(result.values("standard", "nll").mean())
        assert found["arms"]["plain"]["reference"] is None

    def test_its_keys_are_documented(self):
        page = Path(__file__).parents[2] / "docs" / "guide" / "command_line.rst"
        found, text = outcome_of(made()), page.read_text("utf-8")
        keys = {*found, *found["arms"]["plain"], *found["differences"][0]}
        assert not {key for key in keys if f"``{key}``" not in text}

    def test_differences_are_listed_for_every_score(self):
        result = made(GAINS)
        found = outcome_of(result)["differences"]
        assert len(found) == 3 * 8
        first, expected = found[0], result.differences()[0]
        assert first == {**vars(expected), "is_found": True, "is_gain": True}
        corrupted = [each for each in found if each["score"] == "perturbed_nll"]
        assert corrupted[0]["mean"] < 0
        assert corrupted[0]["is_gain"]

    def test_one_run_recommends_nothing(self):
        result = made(GAINS, n_runs=1)
        found = outcome_of(result)
        assert found["recommended"] is result.recommended is None
        with pytest.raises(
            ValueError, match="no arm is recommended after a single run: name an arm"
        ):
            result.make_estimator()
        assert found["differences"][0]["low"] is None
        json.dumps(found, allow_nan=False)

    def test_without_a_score_nothing_is_recommended(self):
        result = made(GAINS)
        for row in result.rows:
            row["roc_auc"] = np.nan
        found = outcome_of(result)
        assert found["recommended"] is None
        assert found["arms"]["plain"]["scores"]["roc_auc"] is None
