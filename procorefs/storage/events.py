"""An event that objects emit and others subscribe to; it is built before both."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class EventSource(Generic[T]):
    """Calls each subscriber with each value, in the order of subscription. Subscribers must not raise."""

    def __init__(self) -> None:
        self._subscribers: tuple[Callable[[T], None], ...] = ()

    def subscribe(self, subscriber: Callable[[T], None]) -> None:
        self._subscribers = (*self._subscribers, subscriber)

    def emit(self, value: T) -> None:
        for subscriber in self._subscribers:
            subscriber(value)
