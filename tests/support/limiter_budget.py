"""The state of the budget with a clock that the test moves, and the headers of a server with the same clock."""

from procorefs.limiter import Priority, answers, policy
from procorefs.limiter.answers import ServerClock, read_report
from procorefs.limiter.budget_state import State

INTERACTIVE, WRITING, REFRESH = Priority
UNIX_S = 1_800_000_000.0  # Unix time at second 0 of the store's clock
HOURLY_S, SPIKE_S = 3600.0, 10.0
OWNER = "host/1/1"


class Budget:
    """A state with a clock that the test moves."""

    def __init__(self) -> None:
        self.state: State = State()
        self.clock = ServerClock()
        self.jitter = 0.5
        self.configured = 0

    def wait_s(self, priority: Priority, now_s: float) -> float:
        policy.settle(self.state, now_s)
        return policy.wait_s(self.state, priority, now_s, configured=self.configured)

    def left(self, now_s: float) -> float:
        return policy.left_of_hour(self.state, now_s)

    def take(self, priority: Priority, now_s: float) -> None:
        policy.settle(self.state, now_s)
        policy.take(self.state, OWNER, priority, now_s)

    def answer(self, now_s: float, headers: dict[str, str], status: int = 200, owner: str = OWNER) -> None:
        policy.settle(self.state, now_s)
        unix_s = UNIX_S + now_s
        server_s = self.clock.unix_s(headers.get("date"), now_s, now_s, unix_s)
        report = read_report(status, headers, server_s)
        answers.observe(self.state, owner, report, now_s, lambda: self.jitter)

    def call(self, now_s: float, headers: dict[str, str], status: int = 200) -> None:
        self.take(INTERACTIVE, now_s)
        self.answer(now_s, headers, status)


def told(limit: int, remaining: int, reset_in_s: float, now_s: float, **more: str) -> dict[str, str]:
    """Rate-limit headers of a server whose clock is ours."""
    return {
        "x-rate-limit-limit": str(limit),
        "x-rate-limit-remaining": str(remaining),
        "x-rate-limit-reset": str(int(UNIX_S + now_s + reset_in_s)),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
