"""Injects faults round by round, and after each round counts what was lost and what was made twice."""

import json
import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from db.models import JobState
from tests.chaos.faults import Fault
from tests.chaos.site import Site

#: Workers of a host.
WORKERS = 3
#: Leavings of a killed process that are nobody's image.
LEAVINGS = {"temporary", "unopened"}


@dataclass
class Outcome:
    """What became of the jobs under one kind of fault."""

    fault: str
    until: str
    kills: bool
    injected: int = 0
    jobs: int = 0
    #: Jobs that have not come to the end they should.
    lost: int = 0
    #: Images beyond one for each job, and files that are not the recorded image.
    twice: int = 0
    #: Attempts charged although the fault must cost none.
    charged: int = 0
    seconds: list[float] = field(default_factory=list)
    #: What `fsck` named beside the leavings.
    findings: dict[str, int] = field(default_factory=dict)

    @property
    def is_well(self) -> bool:
        return not (self.lost or self.twice or self.charged or self.findings)

    def add(self, other: "Outcome") -> None:
        self.injected += other.injected
        self.jobs += other.jobs
        self.lost += other.lost
        self.twice += other.twice
        self.charged += other.charged
        self.seconds += other.seconds
        self.findings = dict(Counter(self.findings) + Counter(other.findings))

    def __str__(self) -> str:
        longest = f", at most {max(self.seconds):.1f} s until {self.until}" if self.seconds else ""
        flaws = f", {self.charged} charged" * bool(self.charged) + f", {self.findings}" * bool(self.findings)
        counts = f"{self.injected} injected, {self.jobs} jobs, {self.lost} lost, {self.twice} twice"
        return f"{self.fault}: {counts}{flaws}{longest}"


@dataclass
class Campaign:
    """A run: ``share`` of the times that a whole one injects each fault, on a server that ``binary`` is."""

    binary: str
    seed: int
    share: float = 1.0
    #: Without what takes a minute.
    hurried: bool = False
    tell: Callable[[str], object] = print
    #: Called when all of a fault has been injected.
    on_done: Callable[[], object] = lambda: None
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def run(self, faults: Iterable[Fault]) -> list[Outcome]:
        for fault in faults:
            if fault.name in self.outcomes:
                continue
            left = max(1, round(fault.times * self.share))
            number = 0
            while left > 0:
                outcome = self.play(fault, min(left, fault.at_once), number)
                left -= max(1, outcome.injected)
                number += 1
            self.tell(str(self.outcomes[fault.name]))
            self.on_done()
        return list(self.outcomes.values())

    def play(self, fault: Fault, times: int, number: int) -> Outcome:
        """One round, on ground of its own."""
        rng = random.Random(f"{self.seed}/{fault.name}/{number}")
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="chaos-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            hurried = self.hurried or number > 0
            site = Site(folder / "site", self.binary, attempts=fault.attempts, hurried=hurried)
            outcome = Round(stack.enter_context(site), fault, rng).play(times)
        self.outcomes.setdefault(fault.name, Outcome(fault.name, fault.until, fault.kills)).add(outcome)
        return outcome


class Round:
    """One kind of fault on a ground of its own."""

    def __init__(self, site: Site, fault: Fault, rng: random.Random) -> None:
        self.site, self.fault, self.rng = site, fault, rng
        self.outcome = Outcome(fault.name, fault.until, fault.kills)
        self._batches: list[int] = []

    def play(self, times: int) -> Outcome:
        """Inject, let everything come to its end, and look at what is there."""
        if "disk" in self.fault.name and not self.site.mount_disk():
            return self.outcome
        for _ in range(self.fault.hosts):
            self.site.open_host(WORKERS)
        if self.fault.of_producer:
            self._hit_producers(times)
        else:
            self._hit_batch(times)
        self._examine()
        return self.outcome

    def _hit_batch(self, times: int) -> None:
        batch_id = self.site.submit(self.fault.jobs, *self.fault.odd)
        self._batches.append(batch_id)
        self.site.until_next(batch_id)
        while self.outcome.injected < times and self.site.open_jobs(batch_id):
            self._inject(batch_id)
            time.sleep(self.rng.uniform(0, self.fault.pause))
        self.site.until_done(batch_id)

    def _hit_producers(self, times: int) -> None:
        for _ in range(times):
            self._inject(0)
            batches = self.site.batches()
            if batches and batches[0].submitted_at is not None:
                self._batches.append(batches[0].id)
            else:
                # What was not recorded to its end is not made; its user submits again.
                self._batches.append(self.site.submit(100))
        # What was opened is sent by the audit.
        for batch_id in sorted(set(self._batches)):
            self.site.until_done(batch_id)

    def _inject(self, batch_id: int) -> None:
        seconds = self.fault.inject(self.site, self.rng, batch_id)
        self.outcome.injected += 1
        if seconds is not None:
            self.outcome.seconds.append(round(seconds, 2))

    # ---- afterwards

    def _examine(self) -> None:
        for batch_id in sorted(set(self._batches)):
            self._count(batch_id)
        self.outcome.findings = self._inspect()
        self.outcome.twice += self.outcome.findings.get("altered", 0) + self.outcome.findings.get("orphan", 0)

    def _count(self, batch_id: int) -> None:
        counts, total = self.site.counts(batch_id), self.site.total(batch_id)
        succeeded, failed = counts.get(JobState.SUCCEEDED, 0), counts.get(JobState.FAILED, 0)
        self.outcome.jobs += total
        self.outcome.lost += total - succeeded - min(failed, self.fault.failing)
        self.outcome.twice += self.site.images_of(batch_id) - succeeded
        if self.fault.free:
            self.outcome.charged += self.site.attempts_of(batch_id) - total

    def _inspect(self) -> dict[str, int]:
        """What fsck finds but leavings, which it removes; then it must find nothing at all."""
        found = self._fsck("--repair")
        serious = {kind: count for kind, count in found.items() if kind not in LEAVINGS}
        return serious or self._fsck()

    def _fsck(self, *more: str) -> dict[str, int]:
        words = ("-m", "producer", "fsck", "--deep", "--age", "0", "--json", *more)
        told = self.site.ask(*words)
        summary = json.loads(told.splitlines()[-1])
        assert summary["kind"] == "summary"
        return {str(kind): int(count) for kind, count in summary["found"].items()}


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """What a run has shown so far, by fault."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text("utf-8"))["outcomes"]
    return {fields["fault"]: Outcome(**fields) for fields in found}


def write_outcomes(path: Path, facts: dict[str, object], outcomes: Iterable[Outcome]) -> None:
    """A run, as JSON."""
    path.write_text(json.dumps({**facts, "outcomes": [asdict(outcome) for outcome in outcomes]}, indent=1), "utf-8")


def version_of(binary: str) -> str:
    """The server, as it calls itself."""
    words = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.split()
    number = next(word.partition("=")[2] for word in words if word.startswith("v="))
    return f"{words[0]} {number}"
