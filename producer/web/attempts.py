"""How often a log-in has failed of late, by whoever tries it; the memory of it is bounded."""

import threading
import time
from collections import OrderedDict, deque
from ipaddress import IPv6Address, ip_address

#: Failures from one address, and for one user, within so many seconds.
BY_ADDRESS, BY_USER, WITHIN = 10, 50, 300.0
#: Addresses and users remembered.
MOST = 4096


class Attempts:
    """Failed log-ins of the last minutes."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, address: str, user: str) -> float:
        """Seconds until a try is looked at; 0 is now, and it counts as failed until `succeed`.

        It is counted before it is known to fail, so that many at once are no way around.
        """
        keys, now = ((_block(address), BY_ADDRESS), (f"user {user}", BY_USER)), time.monotonic()
        with self._lock:
            if wait := max(self._wait(key, most, now) for key, most in keys):
                return wait
            for key, most in keys:
                self._failed.setdefault(key, deque(maxlen=most)).append(now)
                self._failed.move_to_end(key)
            while len(self._failed) > MOST:
                self._failed.popitem(last=False)
            return 0.0

    def succeed(self, address: str, user: str) -> None:
        """Somebody there has logged in."""
        with self._lock:
            self._failed.pop(_block(address), None)
            if tries := self._failed.get(f"user {user}"):
                tries.pop()

    def _wait(self, key: str, most: int, now: float) -> float:
        times = self._failed.get(key)
        return max(0.0, times[0] + WITHIN - now) if times and len(times) == most else 0.0


def _block(address: str) -> str:
    """An address; of IPv6 the network, since one user has many addresses of it."""
    try:
        found = ip_address(address)
    except ValueError:
        return "elsewhere"
    return str(IPv6Address(int(found) >> 64 << 64)) if isinstance(found, IPv6Address) else str(found)
