"""The schema, as the migrations that make it. Each is plain SQL; all that are pending run in one transaction.

*Invariant:* a table's rows are moved by nothing but these: no `transform`, which silently drops WITHOUT ROWID.
"""

from __future__ import annotations

from typing import Any

from sqlite_utils import Database, Migrations

from supervisor.errors import StoreNewer
from supervisor.observe.failpoint import hit

APPLICATION_ID = 0x4A4F4253
"""'JOBS': tells our files from everybody else's."""

MIGRATIONS = Migrations("jobsup")

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES
  ('next_id', 1), ('next_token', 1), ('next_sequence', 1), ('stale', 0), ('prune_after', 0);

CREATE TABLE lane (
  id INTEGER PRIMARY KEY, queue TEXT NOT NULL, key TEXT NOT NULL DEFAULT '', paused INTEGER NOT NULL DEFAULT 0,
  UNIQUE (queue, key)
) STRICT;
CREATE TABLE tally (
  lane INTEGER NOT NULL, state TEXT NOT NULL, jobs INTEGER NOT NULL, PRIMARY KEY (lane, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE job (
  id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, band INTEGER NOT NULL, pos INTEGER NOT NULL,
  priority INTEGER NOT NULL, enqueued_at INTEGER NOT NULL, due_at INTEGER, options TEXT, payload TEXT NOT NULL
) STRICT;
CREATE INDEX job_of_lane ON job (lane);
CREATE TABLE ready (
  lane INTEGER NOT NULL, band INTEGER NOT NULL, pos INTEGER NOT NULL, id INTEGER NOT NULL, mark INTEGER NOT NULL,
  PRIMARY KEY (lane, band, pos)
) STRICT, WITHOUT ROWID;
CREATE TABLE scheduled (
  due_at INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (due_at, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE lease (
  token INTEGER PRIMARY KEY, owner INTEGER NOT NULL, lane INTEGER NOT NULL, leased_at INTEGER NOT NULL,
  jobs TEXT NOT NULL
) STRICT;
CREATE INDEX lease_of_owner ON lease (owner);
CREATE TABLE outcome (
  id INTEGER PRIMARY KEY, state TEXT NOT NULL, attempt INTEGER NOT NULL, token INTEGER NOT NULL,
  started_at INTEGER, finished_at INTEGER NOT NULL, result TEXT, reason TEXT
) STRICT;
CREATE INDEX outcome_not_completed ON outcome (state) WHERE state <> 'completed';

CREATE TABLE trail (
  id INTEGER PRIMARY KEY, failures INTEGER NOT NULL, crashes INTEGER NOT NULL, interruptions INTEGER NOT NULL,
  band INTEGER NOT NULL, pos INTEGER NOT NULL, due_at INTEGER, solo INTEGER NOT NULL DEFAULT 0,
  cancel_at INTEGER, last_error TEXT
) STRICT;
CREATE TABLE attempt (
  id INTEGER NOT NULL, seq INTEGER NOT NULL, attempt INTEGER NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL,
  message TEXT NOT NULL, detail TEXT, PRIMARY KEY (id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE owner (
  id INTEGER PRIMARY KEY AUTOINCREMENT, host TEXT NOT NULL, boot TEXT NOT NULL, epoch INTEGER NOT NULL,
  slot INTEGER NOT NULL, incarnation INTEGER NOT NULL UNIQUE, pool TEXT NOT NULL, directory TEXT NOT NULL,
  pid INTEGER NOT NULL, start_time INTEGER NOT NULL,
  read_sequence INTEGER NOT NULL DEFAULT 0, read_offset INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE request (
  seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, at INTEGER NOT NULL, first_id INTEGER NOT NULL,
  jobs INTEGER NOT NULL
) STRICT;
"""

VIEWS = """
CREATE VIEW jobs AS
SELECT job.id, lane.queue,
       CASE WHEN outcome.id IS NOT NULL THEN outcome.state
            WHEN EXISTS (
              SELECT 1 FROM scheduled WHERE scheduled.id = job.id
              AND scheduled.due_at = CASE WHEN trail.id IS NULL THEN job.due_at ELSE trail.due_at END
            ) THEN 'scheduled'
            WHEN EXISTS (
              SELECT 1 FROM ready WHERE ready.lane = job.lane
              AND ready.band = coalesce(trail.band, job.band) AND ready.pos = coalesce(trail.pos, job.pos)
            ) THEN 'queued'
            ELSE 'running'
       END AS state,
       job.priority, job.enqueued_at, CASE WHEN trail.id IS NULL THEN job.due_at ELSE trail.due_at END AS due_at,
       outcome.started_at, outcome.finished_at, outcome.reason, job.options, job.payload, outcome.result,
       coalesce(trail.failures, 0) AS failures, coalesce(trail.crashes, 0) AS crashes,
       coalesce(trail.interruptions, 0) AS interruptions, trail.last_error
FROM job JOIN lane ON lane.id = job.lane LEFT JOIN outcome ON outcome.id = job.id LEFT JOIN trail ON trail.id = job.id;
"""

LANES = """
DROP VIEW jobs;
CREATE TABLE queue (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, paused INTEGER NOT NULL DEFAULT 0,
  clock INTEGER NOT NULL DEFAULT 0, ranking TEXT NOT NULL DEFAULT '["fifo"]', rerank_after INTEGER, rerank_until INTEGER
) STRICT;
INSERT INTO queue (id, name, paused, ranking) SELECT id, queue, paused, '' FROM lane WHERE key = '';

ALTER TABLE job ADD COLUMN queue INTEGER NOT NULL DEFAULT 0;
UPDATE job SET queue = lane;
DROP INDEX job_of_lane;
CREATE INDEX job_of_queue ON job (queue);
ALTER TABLE tally RENAME COLUMN lane TO queue;
ALTER TABLE lease RENAME COLUMN lane TO queue;

ALTER TABLE lane RENAME TO lane_before;
CREATE TABLE lane (
  id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, key TEXT NOT NULL DEFAULT '', jobs INTEGER NOT NULL DEFAULT 0,
  vtime INTEGER NOT NULL DEFAULT 0, paused INTEGER NOT NULL DEFAULT 0, held INTEGER, doom INTEGER,
  a INTEGER, b INTEGER, c INTEGER, gate TEXT, UNIQUE (queue, key)
) STRICT;
INSERT INTO lane (id, queue) SELECT id, id FROM lane_before;
DROP TABLE lane_before;
CREATE INDEX lane_turn ON lane (queue, a, b, c) WHERE a IS NOT NULL;
CREATE INDEX lane_gate ON lane (gate) WHERE gate IS NOT NULL;
CREATE INDEX lane_doom ON lane (doom) WHERE doom IS NOT NULL;
CREATE INDEX lane_blocked ON lane (queue) WHERE held IS NOT NULL OR paused;
CREATE INDEX lane_idle ON lane (jobs) WHERE jobs = 0 AND key <> '';

ALTER TABLE ready RENAME TO ready_before;
CREATE TABLE ready (
  lane INTEGER NOT NULL, band INTEGER NOT NULL, pos INTEGER NOT NULL, id INTEGER NOT NULL, mark INTEGER NOT NULL,
  PRIMARY KEY (lane, band, pos, id)
) STRICT, WITHOUT ROWID;
INSERT INTO ready (lane, band, pos, id, mark) SELECT lane, band, pos, id, mark FROM ready_before;
DROP TABLE ready_before;

CREATE TABLE bucket (
  name TEXT NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (name, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX bucket_until ON bucket (until);
CREATE TABLE source (
  pool TEXT NOT NULL, source TEXT NOT NULL, vtime INTEGER NOT NULL, PRIMARY KEY (pool, source)
) STRICT, WITHOUT ROWID;
CREATE TABLE uniq (
  hash TEXT PRIMARY KEY, id INTEGER NOT NULL, until INTEGER, states TEXT, gone TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX uniq_of_job ON uniq (id);
CREATE INDEX uniq_until ON uniq (until) WHERE until IS NOT NULL;
ALTER TABLE request ADD COLUMN ids TEXT;
"""

VIEW_OF_JOBS = """
CREATE VIEW jobs AS
SELECT job.id, queue.name AS queue, lane.key,
       CASE WHEN outcome.id IS NOT NULL THEN outcome.state
            WHEN EXISTS (
              SELECT 1 FROM scheduled WHERE scheduled.id = job.id
              AND scheduled.due_at = CASE WHEN trail.id IS NULL THEN job.due_at ELSE trail.due_at END
            ) THEN 'scheduled'
            WHEN EXISTS (
              SELECT 1 FROM ready WHERE ready.lane = job.lane AND ready.id = job.id
              AND ready.band = coalesce(trail.band, job.band) AND ready.pos = coalesce(trail.pos, job.pos)
            ) THEN 'queued'
            ELSE 'running'
       END AS state,
       job.priority, job.enqueued_at, CASE WHEN trail.id IS NULL THEN job.due_at ELSE trail.due_at END AS due_at,
       outcome.started_at, outcome.finished_at, outcome.reason, job.options, job.payload, outcome.result,
       coalesce(trail.failures, 0) AS failures, coalesce(trail.crashes, 0) AS crashes,
       coalesce(trail.interruptions, 0) AS interruptions, trail.last_error
FROM job JOIN queue ON queue.id = job.queue JOIN lane ON lane.id = job.lane
LEFT JOIN outcome ON outcome.id = job.id LEFT JOIN trail ON trail.id = job.id;
"""

RETRY = """
CREATE TABLE expiry (
  at INTEGER NOT NULL, id INTEGER NOT NULL, ttl INTEGER NOT NULL, PRIMARY KEY (at, id, ttl)
) STRICT, WITHOUT ROWID;
CREATE TABLE breaker (
  queue TEXT PRIMARY KEY, phase TEXT NOT NULL, failed_at TEXT NOT NULL, opened_at INTEGER, until_at INTEGER,
  cooldown INTEGER NOT NULL, probe INTEGER, reason TEXT
) STRICT, WITHOUT ROWID;
"""


HISTORY = """
CREATE TABLE letter (
  id INTEGER PRIMARY KEY, queue TEXT NOT NULL, fingerprint TEXT NOT NULL, died_at INTEGER NOT NULL
) STRICT;
CREATE INDEX letter_of_error ON letter (fingerprint, id, queue);
CREATE INDEX letter_of_queue ON letter (queue, fingerprint);
CREATE TABLE letter_group (
  queue TEXT NOT NULL, fingerprint TEXT NOT NULL, jobs INTEGER NOT NULL, type TEXT, message TEXT NOT NULL,
  first_at INTEGER NOT NULL, last_at INTEGER NOT NULL, PRIMARY KEY (queue, fingerprint)
) STRICT, WITHOUT ROWID;
INSERT INTO meta (name, value)
  SELECT 'letters_below', coalesce(max(id) + 1, 0) FROM outcome WHERE state <> 'completed' AND state = 'dead';

CREATE TABLE replay (
  id INTEGER PRIMARY KEY AUTOINCREMENT, created_at INTEGER NOT NULL, chosen TEXT NOT NULL, jobs_max INTEGER,
  pace_jobs INTEGER, pace_ms INTEGER, canary INTEGER, stop_on_failure INTEGER NOT NULL, end_id INTEGER NOT NULL,
  state TEXT NOT NULL, reason TEXT, after_id INTEGER NOT NULL, next_us INTEGER NOT NULL, matched INTEGER NOT NULL,
  released INTEGER NOT NULL, completed INTEGER NOT NULL, failed INTEGER NOT NULL, gone INTEGER NOT NULL,
  ended_at INTEGER
) STRICT;
CREATE INDEX replay_open ON replay (id) WHERE ended_at IS NULL;
CREATE TABLE replayed (
  replay INTEGER NOT NULL, released INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (replay, released, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE stat (
  queue TEXT NOT NULL, minute INTEGER NOT NULL, span INTEGER NOT NULL, enqueued INTEGER NOT NULL,
  started INTEGER NOT NULL, completed INTEGER NOT NULL, failed INTEGER NOT NULL, crashed INTEGER NOT NULL,
  retried INTEGER NOT NULL, dead INTEGER NOT NULL, cancelled INTEGER NOT NULL, interrupted INTEGER NOT NULL,
  run TEXT NOT NULL, wait TEXT NOT NULL, PRIMARY KEY (queue, minute)
) STRICT, WITHOUT ROWID;
CREATE INDEX stat_by_age ON stat (span, minute);

ALTER TABLE trail ADD COLUMN ready_at INTEGER;
"""

SCHEDULES = """
CREATE TABLE schedule (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, origin TEXT NOT NULL, paused INTEGER NOT NULL DEFAULT 0,
  handled_at INTEGER NOT NULL, next_due_at INTEGER, next_fire_at INTEGER, outage TEXT, waiting_due_at INTEGER,
  last_job_id INTEGER, last_due_at INTEGER, last_fired_at INTEGER, outcome TEXT, outcome_at INTEGER, reason TEXT,
  fired INTEGER NOT NULL DEFAULT 0, skipped INTEGER NOT NULL DEFAULT 0, missed INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0, definition TEXT NOT NULL
) STRICT;
CREATE INDEX schedule_to_fire ON schedule (next_fire_at) WHERE next_fire_at IS NOT NULL;
CREATE TABLE claim (
  schedule TEXT NOT NULL, due_at INTEGER NOT NULL, outcome TEXT NOT NULL, at INTEGER NOT NULL, job_id INTEGER,
  PRIMARY KEY (schedule, due_at)
) STRICT, WITHOUT ROWID;
"""

KEYS = """
CREATE INDEX lane_of_key ON lane (key) WHERE key <> '';
CREATE INDEX job_of_key ON job (lane) WHERE lane > queue;
"""
"""The lane of a key always has a higher number than its queue: it is made after the home lane, which is made with the
queue, and numbers grow. A home lane has its queue's number (an older one may have a higher): so a job without a key is
in no index more than it was."""

BLOCKED = """
CREATE TABLE blocked (
  id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, task TEXT NOT NULL, version INTEGER NOT NULL
) STRICT;
CREATE INDEX blocked_for_task ON blocked (queue, task, version);
CREATE TABLE task (
  pool TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, oldest INTEGER NOT NULL, aliases TEXT NOT NULL,
  schema TEXT,
  PRIMARY KEY (pool, name)
) STRICT, WITHOUT ROWID;
"""

QUEUED = "THEN 'queued'"
OR_BLOCKED = "WHEN EXISTS (SELECT 1 FROM blocked WHERE blocked.id = job.id) THEN 'blocked'"
"""What the view of jobs says of those that wait for code."""


FLOWS = """
ALTER TABLE blocked ADD COLUMN waits INTEGER NOT NULL DEFAULT 0;
DROP INDEX blocked_for_task;
CREATE INDEX blocked_for_task ON blocked (queue, task, version) WHERE waits = 0;

CREATE TABLE flow (
  id INTEGER PRIMARY KEY, name TEXT, state TEXT NOT NULL, parent INTEGER, root INTEGER NOT NULL, scope TEXT NOT NULL,
  open INTEGER NOT NULL, steps INTEGER NOT NULL, unfinished INTEGER NOT NULL, dead INTEGER NOT NULL DEFAULT 0,
  cancelled INTEGER NOT NULL DEFAULT 0, skipped INTEGER NOT NULL DEFAULT 0, told INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL, finished_at INTEGER, callbacks TEXT, context TEXT
) STRICT;
CREATE INDEX flow_unfinished ON flow (state) WHERE finished_at IS NULL;
CREATE INDEX flow_by_root ON flow (root, id);
CREATE INDEX flow_inside ON flow (parent) WHERE parent IS NOT NULL;
CREATE INDEX flow_finished ON flow (state, finished_at) WHERE finished_at IS NOT NULL AND parent IS NULL;
CREATE TABLE step (
  id INTEGER PRIMARY KEY, flow INTEGER NOT NULL, kind INTEGER NOT NULL, name TEXT, skipped INTEGER NOT NULL DEFAULT 0,
  tolerated INTEGER NOT NULL DEFAULT 0, rules TEXT
) STRICT;
CREATE INDEX step_of_flow ON step (flow);
CREATE UNIQUE INDEX step_by_name ON step (flow, kind, name) WHERE name IS NOT NULL;
CREATE TABLE edge (
  parent INTEGER NOT NULL, child INTEGER NOT NULL, policy INTEGER NOT NULL, done INTEGER NOT NULL,
  PRIMARY KEY (parent, child)
) STRICT, WITHOUT ROWID;
CREATE INDEX edge_of_child ON edge (child);
CREATE TABLE signal (
  id INTEGER PRIMARY KEY, at INTEGER, payload TEXT
) STRICT;
CREATE TABLE ended_step (
  id INTEGER PRIMARY KEY, counted INTEGER NOT NULL
) STRICT;
"""
"""A step is a job, a flow in the flow, or a signal that jobs of it wait for; each has an id of the one sequence. An
edge is done once its child has counted the end of its parent. What has ended, and is not told to all that
come after it yet, is in `ended_step`."""

TOLD = """
CREATE VIEW told_edge AS
SELECT parent, child, policy,
       done OR (EXISTS (SELECT 1 FROM outcome WHERE outcome.id = edge.parent AND outcome.state = 'completed')
                AND NOT EXISTS (SELECT 1 FROM ended_step WHERE ended_step.id = edge.parent)) AS done
FROM edge;
"""
"""Which edges are done: those that say so, and all behind a job that has completed, and of which nothing is left to
be told. So most need never be written again; whoever takes one of the two facts away writes `done` first."""


CHECKPOINTS = """
CREATE TABLE checkpoint (
  id INTEGER NOT NULL, name TEXT NOT NULL, at INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (id, name)
) STRICT, WITHOUT ROWID;
"""

PULL = """
CREATE TABLE loan (
  token INTEGER PRIMARY KEY, consumer TEXT NOT NULL, boot TEXT NOT NULL, until_boot INTEGER NOT NULL,
  lease_ms INTEGER NOT NULL, until_at INTEGER NOT NULL, key TEXT, prolonged INTEGER NOT NULL
) STRICT;
"""
"""Beside the lease of a consumer: until when it has it. Leases of workers, which are watched, have none."""

OUTBOX = """
CREATE TABLE relayed (
  instance TEXT NOT NULL, id INTEGER NOT NULL, digest TEXT NOT NULL, job INTEGER NOT NULL, PRIMARY KEY (instance, id)
) STRICT, WITHOUT ROWID;
INSERT INTO meta (name, value) SELECT 'database_id', abs(random() / 2);
"""
"""`database_id` tells the databases of two daemons apart that find the same outbox; a copy has that of its original."""

IDEMPOTENCY = """
CREATE TABLE idempotent (
  queue INTEGER NOT NULL, key TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotent_of_job ON idempotent (id);
"""
"""`queue` is the one that the job was enqueued to, wherever it was moved since."""


@MIGRATIONS()
def m001_tables(db: Database) -> None:
    """The body layout: a job's body is written once; ready, lease and outcome are rows beside it."""
    db.executescript(TABLES)
    hit("migrate.step")


@MIGRATIONS()
def m002_view_for_analysts(db: Database) -> None:
    """One view that answers most questions asked by hand: every job, its state, its times in milliseconds."""
    db.executescript(VIEWS)
    hit("migrate.step")


@MIGRATIONS()
def m003_lanes(db: Database) -> None:
    """Queues have rows of their own, and lanes for their keys; limits, sources and unique jobs have their tables."""
    db.executescript(LANES)
    db.executescript(VIEW_OF_JOBS)
    hit("migrate.step")


@MIGRATIONS()
def m004_schedules(db: Database) -> None:
    """Schedules, and what was decided of their due times."""
    db.executescript(SCHEDULES)
    hit("migrate.step")


@MIGRATIONS()
def m005_retry(db: Database) -> None:
    """Times to live and deadlines, by when they are over; how the outage breakers stand."""
    db.executescript(RETRY)
    hit("migrate.step")


@MIGRATIONS()
def m006_history(db: Database) -> None:
    """Dead letters by error, replays, statistics by the minute, and since when a job that has a trail is ready."""
    db.executescript(HISTORY)
    hit("migrate.step")


@MIGRATIONS()
def m007_keys(db: Database) -> None:
    """Jobs are found by their key."""
    db.executescript(KEYS)
    hit("migrate.step")


@MIGRATIONS()
def m008_blocked(db: Database) -> None:
    """Jobs wait for code that knows their task; what the code of each pool knows."""
    db.executescript(BLOCKED)
    db.execute("DROP VIEW jobs")
    db.executescript(VIEW_OF_JOBS.replace(QUEUED, f"{QUEUED} {OR_BLOCKED}"))
    hit("migrate.step")


@MIGRATIONS()
def m009_flows(db: Database) -> None:
    """Flows: jobs that come after others, signals that they wait for, and what is to follow when all have ended."""
    db.executescript(FLOWS)
    hit("migrate.step")


@MIGRATIONS()
def m010_checkpoints(db: Database) -> None:
    """What a run of a job has kept for the next one: its steps, and, under no name, its cursor."""
    db.executescript(CHECKPOINTS)
    hit("migrate.step")


@MIGRATIONS()
def m011_pull(db: Database) -> None:
    """Leases of consumers, which hold them until a time."""
    db.executescript(PULL)
    hit("migrate.step")


@MIGRATIONS()
def m012_outbox(db: Database) -> None:
    """Rows of applications' outboxes that are jobs, until the rows are gone."""
    db.executescript(OUTBOX)
    hit("migrate.step")


@MIGRATIONS()
def m013_idempotency(db: Database) -> None:
    """The first job of each queue that came with an idempotency key, as long as it is kept."""
    db.executescript(IDEMPOTENCY)
    hit("migrate.step")


@MIGRATIONS()
def m014_told(db: Database) -> None:
    """That a step has been told of another one's end follows from rows that are there anyway."""
    db.executescript(TOLD)
    hit("migrate.step")


def migrate(connection: Any) -> list[str]:
    """Bring the database to this version, all or nothing; returns the names of what was applied.

    Raises:
        StoreNewer: a newer version of jobsup has been here; nothing was changed.
    """
    db = Database(connection, execute_plugins=False)
    connection.execute("BEGIN IMMEDIATE")
    try:
        refuse_newer(connection)
        before = {migration.name for migration in MIGRATIONS.applied(db)}
        MIGRATIONS.apply(db)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(known())}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return [name for name in known() if name not in before]


def known() -> list[str]:
    """Names of the migrations that this version knows, in order."""
    return [
        "m001_tables",
        "m002_view_for_analysts",
        "m003_lanes",
        "m004_schedules",
        "m005_retry",
        "m006_history",
        "m007_keys",
        "m008_blocked",
        "m009_flows",
        "m010_checkpoints",
        "m011_pull",
        "m012_outbox",
        "m013_idempotency",
        "m014_told",
    ]


def refuse_newer(connection: Any) -> None:
    """Raise StoreNewer if a migration was applied that this version does not know."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = '_sqlite_migrations'").fetchone():
        return
    rows = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = 'jobsup'").fetchall()
    names = [row[0].decode() if isinstance(row[0], bytes) else row[0] for row in rows]
    strangers = sorted(set(names) - set(known()))
    if strangers:
        raise StoreNewer(
            f"the database was written by a newer version of jobsup ({', '.join(strangers)})",
            hint="install that version again, or restore a backup made before the upgrade",
        )


def is_current(connection: Any) -> bool:
    """Whether the database needs no migration, by its user_version alone."""
    return bool(connection.execute("PRAGMA user_version").fetchone()[0] == len(known()))
