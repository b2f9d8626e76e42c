"""Checks of the package and the configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator

from supervisor.cli.checkup.finding import Finding, problem, warning
from supervisor.cli.checkup.site import Site
from supervisor.config.names import scope_of

OUTBOX_OLD_S = 60
"""A row moves within milliseconds; one that waits so long waits for something."""


def package_clash(_site: Site) -> Iterator[Finding]:
    """PyPI's `supervisor` (supervisord) uses the import name that we use."""
    from supervisor.cli.clash import clash

    if found := clash():
        yield problem("package_clash", found.message, found.remedy)


def config_invalid(site: Site) -> Iterator[Finding]:
    """The configuration cannot be used; every problem is a finding."""
    if site.config_error is None:
        return
    for text in site.config_error.problems:
        if not text.endswith(_REFUSED_ENDS):
            remedy = site.config_error.hint or "correct it; jobsctl config check says whether it is right then"
            yield problem("config_invalid", text, remedy)


def config_writable(site: Site) -> Iterator[Finding]:
    """What the daemon runs can be changed by others."""
    from supervisor.config.lookup import drop_ins
    from supervisor.config.trust import distrust

    if site.main_file is None:
        return
    try:
        files = [site.main_file, *drop_ins(site.main_file)]
    except OSError:
        files = [site.main_file]
    for path in dict.fromkeys([*files, *map(os.path.dirname, files)]):
        try:
            facts = os.stat(path)
        except OSError:
            continue
        found = distrust(facts.st_mode, facts.st_uid, root=os.geteuid() == 0)
        if found:
            text, _, remedy = found.text.partition("; ")
            make = problem if found.refused else warning
            yield make("config_writable", f"{path} {text}", remedy or "see to it that nobody else can write it")


_REFUSED_ENDS = ("run chmod o-w on it", "run chmod g-w on it")
"""How problems of the configuration end that `config_writable` reports by their own name."""


def handler_unusable(site: Site) -> Iterator[Finding]:
    """A handler, command or user that a queue names is not on this host."""
    if site.loaded is None:
        return
    from supervisor.config.check import host_facts

    for text in host_facts(site.loaded, site.environ).problems:
        what, _, remedy = text.rpartition("; ")
        if ": alerts.command: " in text:
            yield problem("alerts_failing", what, remedy)
            continue
        yield problem("handler_unusable", what or text, remedy or "correct the queue")


def config_advice(site: Site) -> Iterator[Finding]:
    """What loading and a look at this host warn of."""
    if site.loaded is None:
        return
    from supervisor.config.check import host_facts
    from supervisor.config.sandbox import needs

    drop_ins = tuple(need.sentence for queue in site.loaded.spec.workplaces.values() for need in needs(queue))
    texts = (*site.loaded.spec.warnings, *host_facts(site.loaded, site.environ).warnings)
    for text in texts:
        if not text.endswith(drop_ins + _REFUSED_ENDS):
            what, _, remedy = text.rpartition("; ")
            yield warning("config_advice", what or text, remedy or "look whether it was meant so")


def config_not_loaded(site: Site) -> Iterator[Finding]:
    """The daemon works by another configuration than the file's."""
    if not (site.hello and site.spec):
        return
    running = set(site.hello["queues"])
    written = {name for name in site.spec.queues if scope_of(name) == ""}  # other scopes answer for themselves
    if missing := sorted(written - running):
        yield warning("config_not_loaded", f"the daemon does not know {', '.join(missing)}", "run jobsctl reload")
    if extra := sorted(running - written):
        text = f"the daemon still serves {', '.join(extra)}, which the configuration no longer has"
        yield warning("config_not_loaded", text, "run jobsctl reload")
    refused = (site.status or {}).get("daemon", {}).get("reload_error")
    if refused:
        yield problem("config_not_loaded", f"the last reload was refused: {refused}", "correct it, and reload again")


def alerts_failing(site: Site) -> Iterator[Finding]:
    """Nobody would hear of what goes wrong."""
    if site.spec is None or not site.spec.alerts.configured:
        return
    error = ((site.status or {}).get("alerts") or {}).get("error")
    if error:
        yield problem("alerts_failing", f"alerts cannot be sent: {error}", "mend it; jobsctl alerts test tries it out")


def outbox_stuck(site: Site) -> Iterator[Finding]:
    """Rows of an outbox do not become jobs."""
    for name, outbox in ((site.status or {}).get("outboxes") or {}).items():
        if outbox["error"]:
            text = f"outbox {name} does not move: {outbox['error']}"
            yield problem("outbox_stuck", text, "mend it; the rows wait, and go on by themselves")
        elif (outbox["oldest_s"] or 0) > OUTBOX_OLD_S:
            full = f", as {', '.join(outbox['full'])} is full" if outbox["full"] else ""
            text = f"the oldest row of outbox {name} has waited for {outbox['oldest_s']:.0f} s{full}"
            yield warning("outbox_stuck", text, "look at jobsctl outbox list, and into the log of jobsupd")


def outbox_refused(site: Site) -> Iterator[Finding]:
    """Rows of an outbox cannot become jobs."""
    for name, outbox in ((site.status or {}).get("outboxes") or {}).items():
        if outbox["refused"]:
            first = outbox["refusals"][0] if outbox["refusals"] else None
            why = f"; row {first['id']}: {first['error']}" if first else ""
            text = f"{outbox['refused']} rows of outbox {name} cannot become jobs{why}"
            remedy = "correct the rows, or the configuration; then set their error to NULL, or reload"
            yield warning("outbox_refused", text, remedy)


CHECKS = (
    package_clash,
    config_invalid,
    config_writable,
    handler_unusable,
    config_advice,
    config_not_loaded,
    alerts_failing,
    outbox_stuck,
    outbox_refused,
)
