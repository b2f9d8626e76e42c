"""Doing what takes several questions, whoever asks them: a generator yields each question and is sent the answer.

So each way of a client is written once. `perform` drives it where asking blocks; an event loop drives it with `await`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from supervisor.errors import JobsupError

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
Result = TypeVar("Result")


def perform(steps: Generator[Asked, Answer, Result], ask: Callable[[Asked], Answer]) -> Result:
    """What the steps return; each question is answered by `ask`, whose errors are raised where it was yielded.

    Raises:
        JobsupError: one that the steps do not catch.
    """
    try:
        asked = next(steps)
        while True:
            try:
                answer = ask(asked)
            except JobsupError as error:
                asked = steps.throw(error)
            else:
                asked = steps.send(answer)
    except StopIteration as end:
        result: Result = end.value
        return result
