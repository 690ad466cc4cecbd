"""How long fuzzing goes on: seconds in `make test`, and 10,000 examples each in `make fuzz`."""

import os

from hypothesis import HealthCheck, settings

#: Examples of each test. A failing one is found again from `.hypothesis`, and belongs into the corpus.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))

settings.register_profile(
    "fuzz",
    max_examples=EXAMPLES,
    # Milliseconds of one example: what takes longer hangs.
    deadline=20_000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
