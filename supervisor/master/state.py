"""What the master's parts share: what is wanted, how it stands, what happened, and what must outlive the children."""

from __future__ import annotations

import os
import selectors
from collections import deque

from supervisor.config.spec import Spec
from supervisor.master.doors import Doors
from supervisor.master.listener import Listener
from supervisor.master.shape import shape
from supervisor.master.slots import Bank
from supervisor.observe.log import Log
from supervisor.tree import events as on
from supervisor.tree.model import Tree, plant
from supervisor.unix.clock import boot_id, boot_ms
from supervisor.unix.inheritance import Roles
from supervisor.unix.limits import raise_file_limit


class State:
    """Made once the run_dir is ours. `lock_fd` holds the writer lock; `files_before` is the limit that pools get."""

    def __init__(self, spec: Spec, roles: Roles, lock_fd: int, log: Log, listener: Listener) -> None:
        self.spec = spec
        self.roles = roles
        self.lock_fd = lock_fd
        self.log = log
        self.listener = listener
        self.doors = Doors(spec.daemon.run_dir)
        self.selector = selectors.DefaultSelector()
        self.files_before = raise_file_limit()
        self.lifeline = os.pipe2(os.O_CLOEXEC)
        self.epoch = boot_ms()
        self.boot_id = boot_id()
        self.bank = Bank(spec.daemon.run_dir, self.boot_id)
        self.versions: dict[str, int] = {}
        """How often a reload has changed each pool."""
        self.tree: Tree = plant(shape(spec, self.versions))
        self.events: deque[on.Event] = deque()
        """What the tree has not been told yet."""
        self.untold = False
        """Whether a pool has said something that status should show."""
        self.reload_error: str | None = None
        self.keeper_seen_ms = self.epoch
        """When the keeper's loop was last seen to turn."""
        self.status = 0
        """What the daemon ends with, if the tree has nothing to say to it."""
