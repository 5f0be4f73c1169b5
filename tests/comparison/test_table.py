"""Results of a comparison, as they are printed."""

from tsynd_sk.comparison import SCORES, format_results


class TestTable:
    rows = [
        {"seed": seed, "arm": arm, "seconds": 2.0, **dict.fromkeys(SCORES, value)}
        for arm, values in {"plain": [0.5, 0.7], "mutual_info": [0.6, 0.9]}.items()
        for seed, value in enumerate(values)
    ]

    def test_differences_are_paired(self):
        table = format_results(self.rows).splitlines()
        assert table[2].split()[:4] == ["plain", "0.600", "±", "0.100"]
        assert table[3].split()[:4] == ["mutual_info", "0.750", "±", "0.150"]
        assert table[4].split()[:6] == ["difference", "to", "plain", "+0.150", "±", "0.050"]

    def test_one_seed_has_no_standard_error(self):
        assert "±" not in format_results(self.rows[::2])

    def test_without_plain_there_are_no_differences(self):
        assert "difference" not in format_results(self.rows[2:])

    def test_it_says_what_was_scored(self):
        for split, named in (("test", "test images"), ("val", "validation images")):
            table = format_results([{**row, "scored_on": split} for row in self.rows])
            assert table.splitlines()[1].startswith(f"{named}  ")

    def test_accuracies_under_attack_have_columns_of_their_own(self):
        rows = [{**row, "pgd_2_accuracy": 0.5, "pgd_0.5_accuracy": 0.25} for row in self.rows]
        lines = format_results(rows).splitlines()
        assert lines[0].split()[-4:] == ["under", "pgd"] * 2
        assert lines[1].split()[-3:] == ["2/255", "0.5/255", "seconds"]
        assert lines[2].split()[-7:] == ["0.500", "±", "0.000", "0.250", "±", "0.000", "2"]
        assert lines[4].split()[-6:] == ["+0.000", "±", "0.000", "+0.000", "±", "0.000"]
