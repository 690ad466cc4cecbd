"""Jobs and images like those of people, drawn: the same ones each time."""

import random
from itertools import accumulate
from typing import Any

from configs.checkpoints import SHIPPED

#: When the last job ended, and seconds between two.
NOW, PACE = 1.8e9, 2.0
BATCH = 10_000
STYLES = ["sharp focus", "highly detailed", "oil on canvas", "golden hour", "soft light", "4k", "baroque", "in the fog"]
SAMPLERS = ["DPM++ 2M Karras"] * 6 + ["Euler a"] * 3 + ["DDIM"]
MODELS = ["demo"] * 7 + ["stabilityai/stable-diffusion-2-1"] * 2 + ["runwayml/stable-diffusion-v1-5"]
#: What a job does not have yet when it is recorded.
LATER = ("id", "state", "attempts", "fence", "worker", "started_at", "finished_at", "cause")


class Drawn:
    """Words as frequent as Zipf has it, ten thousand jobs a batch, a job each two seconds."""

    def __init__(self, jobs: int) -> None:
        self._jobs, self._random = jobs, random.Random(7)
        merges = (SHIPPED / "clip" / "merges.txt").read_text("utf-8").splitlines()[1:]
        words = (line.replace(" ", "").removesuffix("</w>") for line in merges if line.endswith("</w>"))
        # In the order of how frequent they are.
        self._words = [word for word in words if word.isascii() and word.isalpha() and len(word) > 2]
        self._weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(self._words))))

    def _prompt(self) -> str:
        drawn = self._random.choices(self._words, cum_weights=self._weights, k=self._random.randint(4, 22))
        return ", ".join((" ".join(drawn), *self._random.sample(STYLES, self._random.randint(0, 3))))

    def job(self, number: int) -> dict[str, Any]:
        choice, place = self._random.choice, (number - 1) % BATCH
        failed = number % 50 == 0
        ended = NOW - (self._jobs - number) * PACE
        model = MODELS[(number - 1) // BATCH % len(MODELS)]
        return {
            "id": number, "chunk": place // 16, "line": place + 2, "image_index": 0,
            "priority": 5, "prompt": self._prompt(), "negative_prompt": "blurry, low quality, watermark",
            "model": model, "sampler": choice(SAMPLERS), "steps": choice((20, 25, 25, 30, 50)),
            "scale": choice((5.0, 7.0, 7.5, 7.5, 9.0)), "width": 512, "height": choice((512, 512, 768)),
            "seed": 4242 if number == self._jobs // 3 else self._random.randrange(2**32), "strength": 0.75,
            "eta": 0.0, "tags": {"category": choice(("Animals", "Places", "People", "Food"))},
            "state": "failed" if failed else "succeeded", "attempts": 1, "fence": 1, "worker": f"host/{number % 4}",
            "started_at": ended - 4, "finished_at": ended, "cause": choice(("memory", "nan")) if failed else None,
        }  # fmt: skip

    def image(self, number: int) -> dict[str, Any]:
        return {
            "job_id": number, "path": f"{number // BATCH:04d}-bench/{number:08d}.png", "width": 512, "height": 512,
            "sha256": f"{self._random.getrandbits(256):064x}", "bytes": 400_000 + number % 9999,
            "seconds": abs(self._random.gauss(4, 1)), "worker": f"host/{number % 4}", "device": "NVIDIA H100",
            "dtype": "float16", "batch_rows": 16, "checkpoint_hash": "0" * 64, "versions": {"torch": "2.13.0"},
            "created_at": NOW - (self._jobs - number) * PACE, "flagged": "flat" if number % 10_000 == 1 else None,
        }  # fmt: skip


def new_job(job: dict[str, Any]) -> dict[str, Any]:
    """The job as it is when it is recorded."""
    return {name: value for name, value in job.items() if name not in LATER}


def facts(job: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """The row of a peer, which keeps what it knows of an image as one text."""
    known = {name: value for name, value in {**image, **job}.items() if value is not None}
    known = {**known, "finished": job["finished_at"], "tags": job["tags"]}
    return {"id": job["id"], "created_at": job["finished_at"], "facts": known}
