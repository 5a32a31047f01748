"""``python -m benchmarks [overhead]``."""

from __future__ import annotations

import argparse

from benchmarks import overhead


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, nargs="*", default=[1, 10, 60], help="lengths of candidates")
    parser.add_argument("--only", nargs="*", choices=list(overhead.SYSTEMS), default=list(overhead.SYSTEMS))
    arguments = parser.parse_args()
    overhead.main(arguments.seconds, arguments.only)


if __name__ == "__main__":
    main()
