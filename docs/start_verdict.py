"""Write what the start page quotes: the table and the verdict of a comparison on digits.

``python docs/start_verdict.py`` runs ``python -m tsynd_sk``, which takes some minutes on two cores,
and keeps its table in ``docs/start_table.txt`` and its verdict in ``docs/start_verdict.txt``. What
is done already in its folder of results is not run again.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    command = [sys.executable, "-m", "tsynd_sk", "--out", str(HERE / "_build" / "start")]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    # What was read stands before the summary, and where results are behind it.
    summary = printed.partition("\n\n")[2].partition("\n\nResults:")[0]
    table, *_, verdict = summary.split("\n\n")
    for name, text in {"start_table.txt": table, "start_verdict.txt": verdict}.items():
        stripped = text.strip("\n")
        (HERE / name).write_text(f"{stripped}\n")


if __name__ == "__main__":
    main()
