"""What a client asks of flows, as `client.flows`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from supervisor.flow.build import Flow, Step
from supervisor.wire import payload as payloads
from supervisor.wire.flow_text import flow_text

FlowLike = Flow | Step | Mapping[str, Any]


class Flows:
    """The flows of one client's daemon. Every call raises what `Client.enqueue` does, and what is said beside."""

    def __init__(
        self, start: Callable[[str, str | None], dict[str, Any]], request: Callable[..., dict[str, Any]],
        ask: Callable[[str, str], dict[str, Any]], wait: Callable[..., dict[str, Any]],
    ) -> None:  # fmt: skip
        self._start = start
        self._request = request
        self._ask = ask
        self._wait = wait

    def start(self, flow: FlowLike, *, open: bool = False, request_key: str | None = None) -> int:  # noqa: A002
        """Insert a flow, all or nothing; its id.

        Args:
            flow: a `Flow`, one step of a chain, or what a file would hold: name, context, steps and callbacks.
            open: more will be added: it does not end before `close`.
            request_key: as for `Client.enqueue`.

        Raises:
            InvalidFlow: its steps come after each other in a ring, or after one that is not there.
        """
        text = flow_text(_request(flow))
        return int(self._start(f'{text},"open":true' if open else text, request_key)["id"])

    def add(self, flow_id: int, steps: FlowLike, *, request_key: str | None = None) -> dict[str, int]:
        """Add steps to a flow that has not ended, all or none; the ids of those with names.

        Raises:
            UnknownFlow: no flow has that id, or it has no step that one of them comes after.
            WrongState: it has ended, or has a step of that name.
        """
        text = flow_text({name: value for name, value in _request(steps).items() if name == "steps"})
        ids: dict[str, int] = self._start(f'{text},"into":{int(flow_id)}', request_key)["ids"]
        return ids

    def show(self, flow_id: int) -> dict[str, Any]:
        """All about a flow, with its steps.

        Raises:
            UnknownFlow: no flow has that id.
        """
        return self._request("flow", flow=flow_id)

    def list(self, *, state: str | None = None) -> Iterator[dict[str, Any]]:
        """Flows without their steps, the newest first."""
        before = None
        while True:
            page = self._request("flow_list", before=before, state=state)
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
        members = f'"flow":{int(flow_id)},"signal":{payloads.encode(name)},"payload":{payloads.encode(payload)}'
        return not self._ask("flow_signal", members)["repeated"]

    def close(self, flow_id: int) -> None:
        """Let an open flow end once its steps have."""
        self._request("flow_close", flow=flow_id)

    def cancel(self, flow_id: int) -> None:
        """Cancel all of a flow that has not ended; what runs is interrupted.

        Raises:
            UnknownFlow: no flow has that id.
            WrongState: it has ended.
        """
        self._request("flow_cancel", flow=flow_id)

    def retry(self, flow_id: int, step: str | None = None) -> int:
        """Run dead and cancelled steps again; with `step`, that one and all that comes after it. How many.

        Raises:
            UnknownFlow: no flow has that id, or no such step.
            WrongState: it is being cancelled, or one of those steps has not ended.
        """
        return int(self._request("flow_retry", flow=flow_id, step=step)["count"])

    def wait(self, flow_id: int, timeout: Any = None) -> dict[str, Any]:
        """Wait until a flow has ended; all about it, without its steps. As `Client.wait`."""
        return self._wait(flow_id, timeout=timeout)


def _request(flow: FlowLike) -> Mapping[str, Any]:
    if isinstance(flow, Flow):
        return flow.request()
    return Flow(flow).request() if isinstance(flow, Step) else flow
