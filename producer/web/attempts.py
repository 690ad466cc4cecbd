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

    def wait(self, address: str, user: str) -> float:
        """Seconds until the next try is looked at; 0 is now."""
        now = time.monotonic()
        with self._lock:
            return max(self._wait(_block(address), BY_ADDRESS, now), self._wait(f"user {user}", BY_USER, now))

    def fail(self, address: str, user: str) -> None:
        with self._lock:
            for key, most in ((_block(address), BY_ADDRESS), (f"user {user}", BY_USER)):
                self._failed.setdefault(key, deque(maxlen=most)).append(time.monotonic())
                self._failed.move_to_end(key)
            while len(self._failed) > MOST:
                self._failed.popitem(last=False)

    def forget(self, address: str) -> None:
        """Somebody there has logged in."""
        with self._lock:
            self._failed.pop(_block(address), None)

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
