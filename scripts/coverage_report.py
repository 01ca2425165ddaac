"""Prints the coverage of a test run by package of the product: lines and branches, the least covered first."""

import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import coverage


def main() -> None:
    measured = coverage.Coverage()
    measured.load()
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        measured.json_report(outfile=report.name)
        files = json.loads(Path(report.name).read_text())["files"]
    packages: dict[str, Counter[str]] = defaultdict(Counter)
    for name, file in files.items():
        packages["/".join(Path(name).parts[1:-1]) or "procorefs"].update(file["summary"])
    print(f"{'package':<24}{'lines':>8}{'covered':>9}{'branches':>10}{'covered':>9}")
    for package, sums in sorted(packages.items(), key=lambda one: _lines(one[1])):
        print(
            f"{package:<24}{sums['num_statements']:>8,}{_lines(sums):>9.1%}"
            f"{sums['num_branches']:>10,}{_branches(sums):>9.1%}"
        )


def _lines(sums: Counter[str]) -> float:
    return sums["covered_lines"] / sums["num_statements"] if sums["num_statements"] else 1.0


def _branches(sums: Counter[str]) -> float:
    return sums["covered_branches"] / sums["num_branches"] if sums["num_branches"] else 1.0


if __name__ == "__main__":
    main()
