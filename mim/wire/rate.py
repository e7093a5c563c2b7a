"""Rates by token bucket. Time is handed in, so the same code serves sockets, HTTP and tests."""

import math
from collections import OrderedDict


class TokenBucket:
    """Allows `rate` units a second, and up to `burst` at once after a pause."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float, cost: float = 1.0) -> int:
        """Take `cost` units at the monotonic second `now`. Return 0 when allowed, else the milliseconds to wait."""
        tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if tokens >= cost:
            self._tokens = tokens - cost
            return 0
        self._tokens = tokens
        return max(1, math.ceil((cost - tokens) / self._rate * 1000))


class RateLimiter:
    """A bucket per key (a user, an address), the longest unused forgotten beyond `capacity` keys.

    Forgetting gives a key a full bucket again: capacity bounds memory, so choose it far above the keys that
    are active within burst/rate seconds.
    """

    def __init__(self, rate: float, burst: int, capacity: int = 100_000) -> None:
        self._rate = rate
        self._burst = burst
        self._capacity = capacity
        self._buckets: OrderedDict[object, TokenBucket] = OrderedDict()

    def take(self, key: object, now: float, cost: float = 1.0) -> int:
        """Take `cost` units of `key`. Return 0 when allowed, else the milliseconds to wait."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst, now)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now, cost)
