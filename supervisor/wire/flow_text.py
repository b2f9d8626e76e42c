"""A flow as people write it, in Python or in a file, as the members of the request that starts it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from supervisor.errors import InvalidFlow, InvalidPayload, JobsupError
from supervisor.flow.rules import CALLBACKS, POLICIES
from supervisor.wire.job_text import job_text, members

OF_STEPS = ("name", "after", "when", "wait_for")
OF_FLOWS = ("name", "context", "steps", *CALLBACKS)
KEYS = ("queue", "payload", "steps", *OF_STEPS, *CALLBACKS)


def flow_text(given: Mapping[str, Any]) -> str:
    """The members of a request as JSON text without the braces around them.

    Raises:
        InvalidFlow, InvalidPayload: it is no flow, or something of it cannot be written as JSON; the step is named.
    """
    parts = []
    for name, value in given.items():
        if value is None:
            continue
        if name == "steps":
            parts.append(f'"steps":{_steps(value, "")}')
        elif name in CALLBACKS:
            parts.append(f'"{name}":{_job(value, name)}')
        elif name in ("name", "context"):
            parts.append(f'"{name}":{_text(value, name)}')
        else:
            from supervisor.policy.closest import did_you_mean

            hint = did_you_mean(str(name), OF_FLOWS) or f"there are {', '.join(OF_FLOWS)}"
            raise InvalidFlow(f"{name} is no key of a flow", hint=hint)
    return ",".join(parts)


def _steps(steps: Any, path: str) -> str:
    if not isinstance(steps, Sequence) or isinstance(steps, str):
        raise InvalidFlow(f"{path or 'the flow'}: steps must be a list")
    return f"[{','.join(_step(step, f'{path}steps[{at}]') for at, step in enumerate(steps))}]"


def _step(step: Any, path: str) -> str:
    if not isinstance(step, Mapping):
        raise InvalidFlow(f"{path}: a step must be an object")
    path = f"step {step['name']}" if isinstance(step.get("name"), str) else path
    _check_members(step, path)
    own = {name: step[name] for name in OF_STEPS if step.get(name) is not None}
    own |= {"wait_for": [own["wait_for"]]} if isinstance(own.get("wait_for"), str) else {}
    own |= {"after": [own["after"]]} if isinstance(own.get("after"), str) else {}
    _check_policies(own.get("after"), path)
    parts = [_text(own, path)[1:-1]] if own else []
    parts += [f'"{name}":{_job(step[name], f"{path}: {name}")}' for name in CALLBACKS if step.get(name) is not None]
    if step.get("steps") is not None:
        parts.append(f'"steps":{_steps(step["steps"], f"{path}: ")}')
        extra = [name for name in step if name not in (*OF_STEPS, *CALLBACKS, "steps")]
        if extra:
            raise InvalidFlow(f"{path}: a flow in a flow has no {extra[0]}", hint="its steps may have it")
    else:
        parts.append(_job(step, path)[1:-1])
    return f"{{{','.join(parts)}}}"


def _check_policies(after: Any, path: str) -> None:
    """Refuse a word that is no policy here, where the step has a name: in a request it is known by its number."""
    for name, word in after.items() if isinstance(after, Mapping) else ():
        if not isinstance(word, str) or word not in POLICIES:
            from supervisor.policy.closest import did_you_mean

            hint = did_you_mean(str(word), POLICIES)
            error = f"{path}: after {name}: {word!r:.80} is no policy; there are cancel, ignore and continue"
            raise InvalidPayload(error, hint=hint or "docs/flows.md says what each of them does")


def _check_members(step: Mapping[str, Any], path: str) -> None:
    """Refuse a member that no step has, beside those that one may have: a job has fewer."""
    if all(name in KEYS for name in step):
        return
    from supervisor.policy.closest import did_you_mean
    from supervisor.policy.options import NAMES

    known = ("queue", "payload", *OF_STEPS, "steps", *(name for name in NAMES if name != "idempotency_key"))
    for name in step:
        if name not in KEYS and name not in NAMES:
            error = f"{path}: {name} is no member of a step; there are {', '.join(known)}"
            raise InvalidPayload(error, hint=did_you_mean(str(name), (*known, *CALLBACKS)))


def _job(job: Any, path: str) -> str:
    """The queue, the payload and the options of one job."""
    if not isinstance(job, Mapping):
        raise InvalidFlow(f"{path}: must be an object with queue and payload")
    try:
        given = members({name: value for name, value in job.items() if name not in KEYS})
        queue = {} if job.get("queue") is None else {"queue": job["queue"]}
        return job_text(job.get("payload"), queue | given)
    except JobsupError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from None


def _text(value: Any, path: str) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidFlow(f"{path}: cannot be written as JSON: {error}") from None
