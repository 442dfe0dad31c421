"""`make test`: everything that must be green in minutes. Ends with the Python tests' own summary."""

import sys

from check import check
from steps import BIN, ROOT, run


def main() -> None:
    """Cheap and fast first, so that mistakes show early."""
    check()
    run("front-end tests", ["npm", "run", "--silent", "test"], folder=ROOT / "frontend")
    python = str(BIN / "python")
    # Tests of processes, kills and ports have the machine to themselves: beside others, their times mean nothing.
    run(
        "tests that need the machine to themselves",
        [python, "-m", "pytest", "-q", "-m", "serial and not long", "-n", "0", "--ignore=tests/e2e"],
    )
    # In a process of their own: Playwright keeps an event loop running in the one that it is in.
    run("browser tests", [python, "-m", "pytest", "-q", "tests/e2e", "-n", "0"])
    run("tests", [python, "-m", "pytest", "-q", "-m", "not serial and not long", "-n", "2", *sys.argv[1:]])


if __name__ == "__main__":
    main()
