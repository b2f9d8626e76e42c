"""Sending many at once, yet refusing each for itself."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Generic, TypeVar

from supervisor.errors import InvalidPayload, JobsupError, QueueFull
from supervisor.wire.steps import perform

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Asked = TypeVar("Asked")
Heard = TypeVar("Heard")


def sift(items: Sequence[Item], send: Callable[[Sequence[Item]], Sequence[Answer]]) -> list[Answer | JobsupError]:
    """What `send` answers for each item, or the error that kept it from being sent.

    `send` takes all or none. A group that is refused for what is in it, or for its size, is halved until the
    culprits stand alone: few more requests where few are bad. Where a queue is full, as many go in as it has room for,
    the first ones. Any other error hits all that were sent together.
    """

    def asking(part: Sequence[Item]) -> Generator[Sequence[Item], Sequence[Answer], Sequence[Answer]]:
        return (yield part)

    return perform(sifting(items, asking), send)


def sifting(
    items: Sequence[Item], send: Callable[[Sequence[Item]], Generator[Asked, Heard, Sequence[Answer]]]
) -> Generator[Asked, Heard, list[Answer | JobsupError]]:
    """As `sift`, in steps: those of `send`, for one part after the other."""
    return _Sieve(send).sift(items)


class _Sieve(Generic[Item, Asked, Heard, Answer]):
    """`full`: a single item found no room, so that whatever finds none after it need not be halved."""

    def __init__(self, send: Callable[[Sequence[Item]], Generator[Asked, Heard, Sequence[Answer]]]) -> None:
        self._send = send
        self._full = False

    def sift(self, items: Sequence[Item]) -> Generator[Asked, Heard, list[Answer | JobsupError]]:
        if not items:
            return []
        try:
            return list((yield from self._send(items)))
        except QueueFull as error:
            self._full |= len(items) == 1
            if self._full:
                return [error] * len(items)
        except InvalidPayload as refusal:
            if len(items) == 1:
                return [refusal]
        except JobsupError as error:
            return [error] * len(items)
        half = len(items) // 2
        first = yield from self.sift(items[:half])
        return first + (yield from self.sift(items[half:]))
