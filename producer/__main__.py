"""``python -m producer`` is the command `promptmill`."""

from producer.cli import main

main()
