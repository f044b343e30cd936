"""How often a request to S3 is made again, and when."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Retries:
    """Exponential backoff with full jitter, for what botocore's own retries leave over.

    botocore asks again for what fails before an answer is complete; a body that breaks, a 409 and whatever
    outlives its attempts come here.

    :param attempts: how often at most, the first one included.
    :param first: seconds before the second attempt at most; doubles with every further one.
    :param longest: seconds of any pause at most.
    :param sleep: waits some seconds; default: in a way that a reader which is closed ends at once.
    """

    attempts: int = 6
    first: float = 0.2
    longest: float = 10.0
    sleep: Callable[[float], None] | None = None

    def wait(self, failures: int, stop: threading.Event | None = None) -> bool:
        """Wait after a failure.

        :param failures: how many there were so far, from 1.
        :param stop: ends the pause when it is set.
        :return: whether another attempt is left.
        """
        if failures >= self.attempts:
            return False
        bound: float = min(self.longest, self.first * 2.0 ** (failures - 1))
        seconds = random.uniform(0.0, bound)  # a jitter, not a secret
        if self.sleep is not None:
            self.sleep(seconds)
        elif stop is not None:
            stop.wait(seconds)
        else:
            time.sleep(seconds)
        return True
