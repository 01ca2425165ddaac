"""The call budget: who may send the next call to Procore, and when."""

from procorefs.limiter.budget import Limiter, LimiterStatus, Priority, WindowStatus
from procorefs.limiter.gate import LocalLimiter
from procorefs.limiter.opening import LOCAL, budget_key, open_limiter

__all__ = [
    "LOCAL",
    "Limiter",
    "LimiterStatus",
    "LocalLimiter",
    "Priority",
    "WindowStatus",
    "budget_key",
    "open_limiter",
]
