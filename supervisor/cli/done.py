"""How commands that act on several jobs say what was done, and what was not."""

from __future__ import annotations

import sys
from typing import Any

from supervisor.cli.failure import status_of
from supervisor.cli.invocation import Invocation
from supervisor.cli.render import note, put_json
from supervisor.errors import EXIT_FAILED, error_of_code


def conclude(invocation: Invocation, reply: dict[str, Any], asked: int) -> int:
    """Print the ids that were done; one id alone that failed is the command's own error.

    Returns the exit status: that of the failures if they agree, else 1.

    Raises:
        JobsupError: one job was asked for, and failed.
    """
    failed = reply.get("failed") or []
    if asked == 1 and failed:
        raise error_of_code(failed[0]["code"])(failed[0]["message"], hint=failed[0].get("hint"))
    if invocation.json:
        put_json({"done": reply["done"], "failed": failed})
    else:
        sys.stdout.write("".join(f"{job_id}\n" for job_id in reply["done"]))
    for each in failed:
        note(f"{each['id']}: {each['message']}")
    statuses = {status_of(error_of_code(each["code"])("")) for each in failed}
    return 0 if not statuses else statuses.pop() if len(statuses) == 1 else EXIT_FAILED
