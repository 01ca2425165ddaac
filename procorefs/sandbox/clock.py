"""Wall time of the sandbox, which tests may put forward."""

import time


class Clock:
    """Unix seconds, shifted; check-outs, uploads, urls and tokens age by it."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def now(self) -> float:
        """Unix seconds with fraction."""
        return time.time() + self.shift_s

    def now_s(self) -> int:
        """Whole Unix seconds: what Procore stores."""
        return int(self.now())
