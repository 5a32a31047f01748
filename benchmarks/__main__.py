"""``python -m benchmarks``: how long networks take to be built, and what a search costs beside its trainings."""

from __future__ import annotations

import argparse

from benchmarks import building, overhead


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, nargs="*", default=[1, 10, 60], help="lengths of candidates")
    parser.add_argument("--only", nargs="*", choices=list(overhead.SYSTEMS), default=list(overhead.SYSTEMS))
    arguments = parser.parse_args()
    building.main()
    overhead.main(arguments.seconds, arguments.only)


if __name__ == "__main__":
    main()
