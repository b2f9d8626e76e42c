"""jobsctl enqueue: one job from the command line, or a load of them, one per line."""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import DEADLINE, DELAYS, DURATION, INSTANT, OWN_KEY, QUEUE
from supervisor.job import COST_MAX, PRIORITY_MAX, PRIORITY_MIN, VERSION_MAX

INPUT_BYTES_MAX = 16 * 1024 * 1024
ATTEMPTS_MAX = 1_000


@jobsctl_command(
    examples=[
        'jobsctl enqueue emails \'{"to": "a@b.c"}\'',
        "jobsctl enqueue emails @letter.json --delay 5m --tag newsletter",
        "jobsctl enqueue prices --ttl 10m --deadline 1h --backoff 1s,10s,1m",
        "jobsctl enqueue reports --at 2030-01-31T08:00:00Z --priority 10",
        "jobsctl wait $(jobsctl enqueue charges '{\"order\": 7}' --idempotency-key order-7)",
        'jobsctl enqueue mail --task welcome \'{"to": "a@b.c"}\'',
        "find /usr/share -type f | jq -Rc '{path: .}' | jobsctl enqueue checksum --jsonl -",
        "jobsctl enqueue checksum --jsonl big.jsonl --resume 120000",
    ]
)
@click.argument("queue", type=QUEUE)
@click.argument("payload", required=False)
@click.option("--jsonl", metavar="FILE|-", help="Enqueue one job for each line of a file or of standard input.")
@click.option("--resume", metavar="LINE", type=click.IntRange(min=0), help="With --jsonl: go on behind this line.")
@click.option("--delay", metavar="DURATION", type=DURATION, help="Run it no earlier than after this time.")
@click.option("--at", metavar="TIME", type=INSTANT, help="Run it no earlier than at this time (RFC 3339).")
@click.option(
    "--priority", metavar="N", type=click.IntRange(PRIORITY_MIN, PRIORITY_MAX), help="-100 to 100, higher first."
)
@click.option("--timeout", metavar="DURATION", type=DURATION, help="How long a run may take.")
@click.option("--max-attempts", metavar="N", type=click.IntRange(1, ATTEMPTS_MAX), help="How often it may be tried.")
@click.option("--backoff", metavar="DURATION,...", type=DELAYS, help="Delays before retries; the last one repeats.")
@click.option("--retry-for", metavar="DURATION", type=DURATION, help="No retry later than this after it was due.")
@click.option("--ttl", metavar="DURATION", type=DURATION, help="Cancel it if not started this long after it was due.")
@click.option("--expires", metavar="TIME", type=INSTANT, help="Cancel it if not started by this time.")
@click.option("--deadline", metavar="DURATION|TIME", type=DEADLINE, help="Dead if not done by then; a run is cut.")
@click.option("--key", metavar="TEXT", type=OWN_KEY, help="What it belongs to: order, turns and limits may be by key.")
@click.option("--idempotency-key", metavar="TEXT", type=OWN_KEY, help="Who comes with it again gets the same job.")
@click.option("--cost", metavar="N", type=click.IntRange(1, COST_MAX), help="How many jobs it counts for in a rate.")
@click.option("--task", metavar="NAME", help="Which task of the queue runs it, where its handler is a module of tasks.")
@click.option(
    "--version", metavar="N", type=click.IntRange(1, VERSION_MAX), help="That of the payload; else the newest."
)
@click.option("--tag", metavar="TEXT", multiple=True, help="A tag to find it by; may be repeated.")
@pass_invocation
def command(
    invocation: Invocation, /, queue: str, payload: str | None, jsonl: str | None, resume: int | None, **options: Any
) -> int:
    """Enqueue a job and print its id.

    PAYLOAD is JSON, @FILE reads it from a file, - from standard input; without it the payload is null. With
    --jsonl, every line is the payload of one job; what cannot be enqueued is reported with its line, and an
    interrupted load says behind which line --resume goes on. Empty lines are passed over.
    """
    wanted = _job_options(**options)
    if jsonl is not None and "idempotency_key" in wanted:
        raise click.UsageError("--idempotency-key names one job, and --jsonl makes one of each line: leave out either")
    if jsonl is not None:
        if payload is not None:
            raise click.UsageError("give a PAYLOAD or --jsonl, not both")
        from supervisor.cli.load import load_lines

        return load_lines(invocation, queue, jsonl, resume or 0, wanted)
    if resume is not None:
        raise click.UsageError("--resume goes with --jsonl")
    _enqueue_one(invocation, queue, payload, wanted)
    return 0


def _job_options(
    delay: int | None, at: int | None, priority: int | None, timeout: int | None, max_attempts: int | None,
    tag: tuple[str, ...], backoff: list[int] | None, retry_for: int | None, ttl: int | None, expires: int | None,
    deadline: dict[str, int] | None, key: str | None, cost: int | None, task: str | None,
    version: int | None, idempotency_key: str | None,
) -> dict[str, Any]:  # fmt: skip
    """The options of a job as the protocol has them; only those that were given."""
    if delay is not None and at is not None:
        raise click.UsageError("--delay and --at exclude each other")
    if ttl is not None and expires is not None:
        raise click.UsageError("--ttl and --expires exclude each other")
    given = {
        "delay_ms": delay, "due_at_ms": at, "priority": priority, "timeout_ms": timeout,
        "backoff_ms": backoff, "retry_for_ms": retry_for, "ttl_ms": ttl, "expires_at_ms": expires, **(deadline or {}),
        "max_attempts": max_attempts, "tags": list(tag) or None, "key": key, "cost": cost,
        "task": task, "version": version, "idempotency_key": idempotency_key,
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}


def _enqueue_one(invocation: Invocation, queue: str, payload: str | None, options: dict[str, Any]) -> None:
    import sys

    from supervisor.wire.payload import parse

    text = "null" if payload is None else read_payload(payload)
    with invocation.client() as client:
        reply = client.insert(queue, [{"payload": parse(text), **options}])
    if invocation.json:
        import json

        (job_id,), (state,) = reply["ids"], reply["states"]
        answer = {"id": job_id, "queue": queue, "state": state, "acknowledged": reply["acknowledged"]}
        answer["existing"] = bool(reply["existing"])
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        sys.stdout.write(f"{reply['ids'][0]}\n")
        sys.stdout.flush()
    if sys.stderr.isatty() and invocation.holder() is None:
        from supervisor.cli.render import note

        note(f"no daemon runs: job {reply['ids'][0]} waits for one")


def read_payload(payload: str) -> str | bytes:
    """The payload's text: itself, or what @FILE or - stand for."""
    if payload == "-":
        import sys

        return _bounded(sys.stdin.buffer.read(INPUT_BYTES_MAX + 1), "standard input")
    if payload.startswith("@"):
        try:
            with open(payload[1:], "rb") as file:
                return _bounded(file.read(INPUT_BYTES_MAX + 1), payload[1:])
        except (OSError, ValueError) as error:
            raise click.UsageError(f"{payload[1:]}: {getattr(error, 'strerror', None) or error}") from None
    return payload


def _bounded(content: bytes, source: str) -> bytes:
    if len(content) > INPUT_BYTES_MAX:
        from supervisor.errors import PayloadTooLarge

        raise PayloadTooLarge(f"{source} has more than {INPUT_BYTES_MAX:,} bytes, the most that a request may hold")
    return content
