"""An event that other objects subscribe to. It is built before those that emit it and those that subscribe."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class EventSource(Generic[T]):
    """Calls each subscriber with each value, in the order in which they subscribed. Subscribers must not raise."""

    def __init__(self) -> None:
        self._subscribers: tuple[Callable[[T], None], ...] = ()

    def subscribe(self, subscriber: Callable[[T], None]) -> None:
        self._subscribers = (*self._subscribers, subscriber)

    def emit(self, value: T) -> None:
        for subscriber in self._subscribers:
            subscriber(value)
