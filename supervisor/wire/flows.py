"""What clients ask of flows, as `client.flows`: each call once, for clients that block and for those that await."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from supervisor.flow.build import Flow, Step
from supervisor.wire import payload as payloads
from supervisor.wire.flow_text import flow_text

if TYPE_CHECKING:
    from supervisor.job import Duration
    from supervisor.shapes import JobStatus, SignalSent
    from supervisor.wire.calls import Calls, Steps

FlowLike = Flow | Step | Mapping[str, Any]
"""A `Flow`, one step of a chain, or what a file would hold: name, context, steps and callbacks."""


def _start(calls: Calls, flow: FlowLike, key: str | None, *, is_open: bool) -> Steps[int]:
    text = flow_text(_request(flow))
    answer = yield from calls.start_flow(f'{text},"open":true' if is_open else text, key)
    return int(answer["id"])


def _add(calls: Calls, flow_id: int, steps: FlowLike, key: str | None) -> Steps[dict[str, int]]:
    text = flow_text({name: value for name, value in _request(steps).items() if name == "steps"})
    ids: dict[str, int] = (yield from calls.start_flow(f'{text},"into":{int(flow_id)}', key))["ids"]
    return ids


def _signal(calls: Calls, flow_id: int, name: str, payload: Any) -> Steps[SignalSent]:
    called = payloads.encode(name, "the name of the signal")
    text = f'"flow":{int(flow_id)},"signal":{called},"payload":{payloads.encode(payload)}'
    return cast("SignalSent", (yield from calls.signal_flow(text)))


def _request(flow: FlowLike) -> Mapping[str, Any]:
    if isinstance(flow, Flow):
        return flow.request()
    return Flow(flow).request() if isinstance(flow, Step) else flow


class Flows:
    """The flows of a daemon, for a `Client`. Every call raises what `Client.enqueue` does, and what is said beside."""

    def __init__(self, calls: Calls, perform: Callable[[Steps[Any]], Any]) -> None:
        self._calls = calls
        self._do = perform

    def start(self, flow: FlowLike, *, open: bool = False, request_key: str | None = None) -> int:  # noqa: A002
        """Insert a flow, all or nothing; its id.

        Args:
            flow: a `Flow`, one step of a chain, or what a file would hold: name, context, steps and callbacks.
            open: more will be added: it does not end before `close`.
            request_key: as for `Client.enqueue`.

        Raises:
            InvalidFlow: its steps come after each other in a ring, or after one that is not there.
        """
        return int(self._do(_start(self._calls, flow, request_key, is_open=open)))

    def add(self, flow_id: int, steps: FlowLike, *, request_key: str | None = None) -> dict[str, int]:
        """Add steps to a flow that has not ended, all or none; the ids of those with names.

        Raises:
            UnknownFlow: no flow has that id, or it has no step that one of them comes after.
            WrongState: it has ended, or has a step of that name.
        """
        ids: dict[str, int] = self._do(_add(self._calls, flow_id, steps, request_key))
        return ids

    def show(self, flow_id: int) -> dict[str, Any]:
        """All about a flow, with its steps.

        Raises:
            UnknownFlow: no flow has that id.
        """
        return self._ask("flow", flow=flow_id)

    def list(self, *, state: str | None = None) -> Iterator[dict[str, Any]]:
        """Flows without their steps, the newest first."""
        before = None
        while True:
            page = self._ask("flow_list", before=before, state=state)
            yield from page["flows"]
            before = page["next"]
            if before is None:
                return

    def signal(self, flow_id: int, name: str, payload: Any = None) -> bool:
        """Send a signal for steps that wait for it, now or later; False if it had come before.

        Raises:
            UnknownFlow: no flow has that id.
            WrongState: it has ended.
        """
        return not self.send_signal(flow_id, name, payload)["repeated"]

    def send_signal(self, flow_id: int, name: str, payload: Any = None) -> SignalSent:
        """As `signal`; all that is answered, such as whether steps wait for it at all."""
        return cast("SignalSent", self._do(_signal(self._calls, flow_id, name, payload)))

    def close(self, flow_id: int) -> None:
        """Let an open flow end once its steps have."""
        self._ask("flow_close", flow=flow_id)

    def cancel(self, flow_id: int) -> None:
        """Cancel all of a flow that has not ended; what runs is interrupted.

        Raises:
            UnknownFlow: no flow has that id.
            WrongState: it has ended.
        """
        self._ask("flow_cancel", flow=flow_id)

    def retry(self, flow_id: int, step: str | None = None) -> int:
        """Run dead and cancelled steps again; with `step`, that one and all that comes after it. How many.

        Raises:
            UnknownFlow: no flow has that id, or no such step.
            WrongState: it is being cancelled, or one of those steps has not ended.
        """
        return int(self._ask("flow_retry", flow=flow_id, step=step)["count"])

    def wait(self, flow_id: int, timeout: Duration | None = None) -> JobStatus:
        """Wait until a flow has ended; all about it, without its steps. As `Client.wait`."""
        found: JobStatus = self._do(self._calls.wait(flow_id, timeout))
        return found

    def _ask(self, op: str, **given: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._do(self._calls.request(op, None, given))
        return answer


class AsyncFlows:
    """The same for an `AsyncClient`."""

    def __init__(self, calls: Calls, perform: Callable[[Steps[Any]], Awaitable[Any]]) -> None:
        self._calls = calls
        self._do = perform

    async def start(
        self, flow: FlowLike, *, open: bool = False, request_key: str | None = None  # noqa: A002
    ) -> int:  # fmt: skip
        """As `Flows.start`."""
        return int(await self._do(_start(self._calls, flow, request_key, is_open=open)))

    async def add(self, flow_id: int, steps: FlowLike, *, request_key: str | None = None) -> dict[str, int]:
        """As `Flows.add`."""
        ids: dict[str, int] = await self._do(_add(self._calls, flow_id, steps, request_key))
        return ids

    async def show(self, flow_id: int) -> dict[str, Any]:
        """As `Flows.show`."""
        return await self._ask("flow", flow=flow_id)

    async def list(self, *, state: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """As `Flows.list`."""
        before = None
        while True:
            page = await self._ask("flow_list", before=before, state=state)
            for flow in page["flows"]:
                yield flow
            before = page["next"]
            if before is None:
                return

    async def signal(self, flow_id: int, name: str, payload: Any = None) -> bool:
        """As `Flows.signal`."""
        return not (await self.send_signal(flow_id, name, payload))["repeated"]

    async def send_signal(self, flow_id: int, name: str, payload: Any = None) -> SignalSent:
        """As `Flows.send_signal`."""
        return cast("SignalSent", await self._do(_signal(self._calls, flow_id, name, payload)))

    async def close(self, flow_id: int) -> None:
        """As `Flows.close`."""
        await self._ask("flow_close", flow=flow_id)

    async def cancel(self, flow_id: int) -> None:
        """As `Flows.cancel`."""
        await self._ask("flow_cancel", flow=flow_id)

    async def retry(self, flow_id: int, step: str | None = None) -> int:
        """As `Flows.retry`."""
        return int((await self._ask("flow_retry", flow=flow_id, step=step))["count"])

    async def wait(self, flow_id: int, timeout: Duration | None = None) -> JobStatus:
        """As `Flows.wait`."""
        found: JobStatus = await self._do(self._calls.wait(flow_id, timeout))
        return found

    async def _ask(self, op: str, **given: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self._do(self._calls.request(op, None, given))
        return answer
