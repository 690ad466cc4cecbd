"""``python -m tests.chaos.command ...``: `promptmill`, which dies when told to, and whose workers have no device."""

import sys

from tests.chaos.crash_points import arm_fleet, arm_producer


def main() -> None:
    from producer import worker_process
    from producer.cli import main as promptmill

    if "worker" in sys.argv[1:2]:
        worker_process.PROGRAM = (sys.executable, "-m", "tests.chaos.null_worker")
        arm_fleet()
    else:
        arm_producer()
    promptmill()


if __name__ == "__main__":
    main()
