"""Sending many at once, yet refusing each for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from supervisor.errors import InvalidPayload, JobsupError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def sift(items: Sequence[Item], send: Callable[[Sequence[Item]], Sequence[Answer]]) -> list[Answer | JobsupError]:
    """What `send` answers for each item, or the error that kept it from being sent.

    `send` takes all or none. A group that is refused for what is in it, or for its size, is halved until the
    culprits stand alone: few more requests where few are bad. Any other error hits all that were sent together.
    """
    if not items:
        return []
    try:
        return list(send(items))
    except InvalidPayload as refusal:
        if len(items) == 1:
            return [refusal]
    except JobsupError as error:
        return [error] * len(items)
    half = len(items) // 2
    return sift(items[:half], send) + sift(items[half:], send)
