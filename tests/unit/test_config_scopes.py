"""Scopes in configuration files: what they come to, how a file finds its daemon, and every way to get them wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.config import agree
from supervisor.config.check import check
from supervisor.config.discipline import discipline_of
from supervisor.config.dropin import add_queue
from supervisor.config.layers import LAID
from supervisor.config.load import load, load_main, load_whole, read
from supervisor.config.locate import socket_path
from supervisor.config.names import inner_name, internal_name, scope_of, short_name
from supervisor.config.queue_keys import ARRAYS, MAIN_ONLY, NAMED, TOP
from supervisor.config.resolved import as_data, as_toml_data
from supervisor.config.scopes import REFERRING, TABLES, alone, internal
from supervisor.config.spec import Spec, matches
from supervisor.errors import ConfigError
from tests.support.config_files import problems, write

QUEUES = """
[queues.emails]
handler = "m:f"
limits = ["api"]
[queues."tenant_*"]
handler = "m:f"
[queues.drawn]
[pools.common]
handler = "m:f"
sources = { drawn = 2 }
[limits.api]
concurrency = 3
"""
OF = '[daemon]\nscope_of = "../queues.toml"\n'


def scopes(**files: str) -> str:
    return "".join(f'[scopes.{name}]\nconfig = "{file}"\n' for name, file in files.items())


@pytest.fixture
def main(tmp_path: Path) -> Path:
    write(tmp_path, OF + QUEUES, "shop/queues.toml")
    write(tmp_path, OF + QUEUES, "blog/queues.toml")
    return write(tmp_path, QUEUES + scopes(shop="shop/queues.toml", blog="blog/queues.toml"))


def test_a_name_says_of_which_scope_it_is() -> None:
    assert (internal_name("shop", "emails"), internal_name("", "emails")) == ("shop/emails", "emails")
    assert (scope_of("shop/emails"), scope_of("emails")) == ("shop", "")
    assert (short_name("shop/emails"), short_name("emails")) == ("emails", "emails")


@pytest.mark.parametrize("scope", ["", "shop"])
def test_what_is_asked_for_with_a_slash_is_nothing(main: Path, scope: str) -> None:
    whole = load(main, environ={})
    for name in ("shop/emails", "/emails", "blog/emails", "shop/tenant_a", "/shop/emails"):
        assert whole.queue(inner_name(scope, name)) is None
    assert whole.queue(inner_name(scope, "emails")) is not None


def test_everything_of_a_scope_stands_under_its_internal_name(main: Path) -> None:
    whole = load(main, environ={})
    names = ["emails", "tenant_*", "drawn"]
    assert list(whole.queues) == [*names, *(f"{scope}/{name}" for scope in ("shop", "blog") for name in names)]
    assert list(whole.limits) == ["api", "shop/api", "blog/api"]
    assert list(whole.pools) == ["common", "shop/common", "blog/common"]
    emails, pool = whole.queues["shop/emails"], whole.pools["shop/common"]
    assert (emails.name, emails.limits, pool.sources) == ("shop/emails", ("shop/api",), {"shop/drawn": 2})
    assert emails.env["JOBSUP_CONFIG"] == str(main.parent / "shop" / "queues.toml")
    assert [str(main.parent / name) for name in ("queues.toml", "shop/queues.toml", "blog/queues.toml")] == list(
        whole.files
    )
    (limit,) = discipline_of(whole, "shop/emails").limits
    assert limit.name == "limit:shop/api"


def test_a_pattern_stands_for_queues_of_its_scope_only(main: Path) -> None:
    whole = load(main, environ={})
    found = whole.queue("shop/tenant_a")
    assert found is not None
    assert found.name == "shop/tenant_*"
    assert whole.queue("tenant_a") is whole.queues["tenant_*"]
    assert matches("*", "emails")
    assert not matches("*", "shop/emails")
    assert matches("shop/*", "shop/emails")
    assert not matches("shop/*", "emails")
    assert not matches("shop/*", "shop/a/b")
    assert not matches("shop/*", "shop/" + "x" * 64)
    assert matches("shop/*", "shop/" + "x" * 63)


def test_a_spec_table_that_refers_to_others_is_known_to_refer() -> None:
    """Whoever gives a table a field with names of tables, or a file another section of tables, must say so there."""
    assert set(TABLES) == {*NAMED, *LAID} - set(MAIN_ONLY)
    assert set(REFERRING) == {"name", "limits", "sources", "queue", "on_failure", "on_dead"}
    assert set(MAIN_ONLY) <= {*TOP, *NAMED, *ARRAYS}


def test_the_file_of_a_scope_by_itself_has_short_names_and_the_daemon_of_its_main_file(main: Path) -> None:
    file = main.parent / "shop" / "queues.toml"
    part, whole = load(file, environ={}), load(main, environ={})
    assert (part.scope, list(part.queues)) == ("shop", ["emails", "tenant_*", "drawn"])
    assert (part.daemon.database, part.daemon.run_dir) == (whole.daemon.database, whole.daemon.run_dir)
    assert part.socket == f"{whole.daemon.run_dir}/scopes/shop.sock" == socket_path(file, {})
    assert whole.socket == f"{whole.daemon.run_dir}/jobsup.sock" == socket_path(main, {})
    assert all(whole.queues[name] == queue for name, queue in internal(part).queues.items())
    assert alone(whole).queues == {name: whole.queues[name] for name in ("emails", "tenant_*", "drawn")}
    assert internal(alone(whole)) == alone(whole)


def test_what_a_client_of_a_scope_names_leads_to_the_whole(main: Path) -> None:
    file = main.parent / "shop" / "queues.toml"
    assert load_whole(main, (), {}) == (load(main, environ={}), "")
    whole, scope = load_whole(file, ["queues.emails.workers=5"], {})
    assert (scope, whole.queues["shop/emails"].workers, whole.queues["blog/emails"].workers) == ("shop", 5, 2)
    assert set(whole.queues) == set(load(main, environ={}).queues)


def test_only_a_main_file_can_be_run(main: Path) -> None:
    assert load_main(main, (), {}) == load(main, environ={})
    with pytest.raises(ConfigError, match="is the file of scope shop") as caught:
        load_main(main.parent / "shop" / "queues.toml", (), {})
    assert caught.value.hint == f"jobsupd -c {main}"


def test_a_scope_has_its_own_handlers_access_and_drop_ins_or_those_of_the_main_file(main: Path, tmp_path: Path) -> None:
    write(tmp_path, OF + 'python_path = ["app"]\n[access]\nadmin = ["user:root"]\n' + QUEUES, "shop/queues.toml")
    write(tmp_path, '[queues.extra]\nhandler = "m:f"\n', "shop/queues.d/50-extra.toml")
    (tmp_path / "shop" / "app").mkdir()
    main.write_text('[daemon]\npython_path = ["other"]\n[access]\nstatus = ["user:root"]\n' + main.read_text())
    whole = load(main, environ={})
    assert whole.queues["shop/emails"].python_path == (str(tmp_path / "shop" / "app"),)
    assert whole.queues["blog/emails"].python_path == (str(tmp_path / "other"),)
    assert (whole.scopes["shop"].access.admin, whole.scopes["shop"].access.status) == (("user:root",), ())
    assert whole.scopes["blog"].access == whole.access
    assert "shop/extra" in whole.queues
    assert "extra" not in whole.queues
    path = add_queue(tmp_path / "shop" / "queues.toml", "more", {"handler": "m:f"}, {})
    assert path == tmp_path / "shop" / "queues.d" / "50-more.toml"
    assert "shop/more" in load(main, environ={}).queues


def test_the_file_of_a_scope_may_say_what_the_main_file_says(main: Path, tmp_path: Path) -> None:
    spec = load(main, environ={})
    write(tmp_path, f'{OF}database = "{spec.daemon.database}"\nshutdown_grace = "30s"\n{QUEUES}', "shop/queues.toml")
    assert load(main, environ={}).daemon == spec.daemon


@pytest.mark.parametrize("name", ["queues.toml", "shop/queues.toml"])
def test_what_is_shown_loads_as_the_same_spec(main: Path, tmp_path: Path, name: str) -> None:
    import tomli_w

    queue = '[queues.emails]\nhandler = "m:f"\nlimits = ["api"]\n[limits.api]\nconcurrency = 3\n'
    for file, text in (
        (main, queue + scopes(shop="shop/queues.toml")),
        (tmp_path / "shop" / "queues.toml", OF + queue),
    ):
        file.write_text(text)
    spec = read(tmp_path / name, environ={}).alone
    shown = tomli_w.dumps(as_toml_data(spec))
    write(tmp_path, shown, name)
    again = read(tmp_path / name, environ={}).alone
    assert as_data(again) == as_data(spec)
    assert "shop/" not in shown.replace("/shop/queues.toml", "")
    assert again.scopes == spec.scopes


def test_the_check_of_this_host_is_of_all_files_each_in_its_place(main: Path, tmp_path: Path) -> None:
    found = check(main, environ={"PATH": os.defpath})
    for folder in ("", "shop/", "blog/"):
        assert any(problem.startswith(f"{tmp_path}/{folder}queues.toml:") for problem in found.problems), folder
    assert not any("shop/emails" in problem for problem in found.problems)
    only = check(tmp_path / "shop" / "queues.toml", environ={"PATH": os.defpath})
    assert all(problem.startswith(f"{tmp_path}/shop/queues.toml:") for problem in only.problems)


# -- a client finds the daemon ------------------------------------------------------------------------------------


def test_a_client_finds_the_socket_through_links_and_while_the_file_is_being_edited(main: Path, tmp_path: Path) -> None:
    main.write_text('[daemon]\nrun_dir = "r"\n' + main.read_text())
    file = tmp_path / "shop" / "queues.toml"
    link = tmp_path / "elsewhere"
    link.mkdir()
    (link / "mine.toml").symlink_to(file)
    assert socket_path(file, {}) == str(tmp_path / "r" / "scopes" / "shop.sock")
    assert socket_path(link / "mine.toml", {}) == str(tmp_path / "r" / "scopes" / "shop.sock")
    file.write_text(OF + "[queues.emails\n")
    with pytest.raises(ConfigError, match="TOML"):
        socket_path(file, {})
    import socket

    (tmp_path / "r" / "scopes").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "r" / "scopes" / "shop.sock"))
        assert socket_path(file, {}) == str(tmp_path / "r" / "scopes" / "shop.sock")


@pytest.mark.parametrize(
    ("scope_of", "sentence"),
    [
        ("queues.toml", "is this file itself"),
        ("../none.toml", "does not exist"),
        ("../other.toml", "has no [scopes.NAME] with this file as its config; write one there"),
        ("../blog/queues.toml", "is the file of a scope itself; name the main file"),
    ],
)
def test_a_file_that_is_at_home_nowhere(main: Path, tmp_path: Path, scope_of: str, sentence: str) -> None:
    write(tmp_path, '[queues.q]\nhandler = "m:f"\n', "other.toml")
    file = write(tmp_path, f'[daemon]\nscope_of = "{scope_of}"\n', "shop/queues.toml")
    for find in (lambda: load(file, environ={}), lambda: socket_path(file, {})):
        with pytest.raises(ConfigError) as caught:
            find()
        assert sentence in caught.value.problems[0]


# -- bad input ----------------------------------------------------------------------------------------------------


def said(tmp_path: Path, text: str) -> list[str]:
    return problems(write(tmp_path, QUEUES + text))


@pytest.mark.parametrize("name", ["Shop", "../shop", "a/b", "a b", "", "x" * 33, "*", "-a", "\\u001b[2J", "\\u202e"])
def test_absurd_names_are_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, OF + QUEUES, "shop/queues.toml")
    (found,) = said(tmp_path, f'[scopes."{name}"]\nconfig = "shop/queues.toml"\n')
    assert "of at most 32 characters" in found
    assert found.isprintable()


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("[scopes]\nshop = 1\n", "scopes.shop: is no table; write it as [scopes.shop] with keys below"),
        ("[scopes.shop]\n", 'scopes.shop: has no file; write config = "shop/queues.toml"'),
        ("[scopes.shop]\nconfig = 1\n", "scopes.shop.config: 1 is an integer"),
        ("[scopes.shop]\nconfig = 'shop/queues.toml'\nqueue = 1\n", "scopes.shop.queue: unknown key"),
        ("[scopes.shop]\nconfig = 'gone/queues.toml'\n", "does not exist; make the file, or correct the path"),
        ("[scopes.shop]\nconfig = 'queues.toml'\n", "is the main file already; a scope has a file of its own"),
        ("[scopes.shop]\nconfig = 'other.toml'\n", "stands in the folder of the main file, with which it would share"),
        (
            scopes(shop="shop/queues.toml", blog="shop/queues.toml"),
            "scopes.blog.config: \"TMP/shop/queues.toml\" is the file of scope shop already",
        ),
        (
            scopes(shop="shop/queues.toml", blog="link/queues.toml"),
            "scopes.blog.config: \"TMP/shop/queues.toml\" is the file of scope shop already",
        ),
        (scopes(shop="shop/queues.toml", blog="shop/two.toml"), "stands in the folder of the file of scope shop"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_scope_is_said_in_the_main_file(tmp_path: Path, written: str, sentence: str) -> None:
    write(tmp_path, OF + QUEUES, "shop/queues.toml")
    write(tmp_path, OF + QUEUES, "shop/two.toml")
    write(tmp_path, OF, "other.toml")
    (tmp_path / "link").symlink_to(tmp_path / "shop")
    (found,) = said(tmp_path, written)
    assert found.startswith("queues.toml:")
    assert sentence.replace("TMP/", "") in found.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("[log]\nlevel = 'debug'\n", "log: stands in the file of scope shop, and the daemon has one log"),
        ("[intake]\nacknowledge = 'buffered'\n", "intake: stands in the file of scope shop, and all scopes share"),
        (scopes(blog="../blog/queues.toml"), "scopes: stands in the file of scope shop, and a scope has no scopes"),
        (scopes(main="../queues.toml"), "scopes: stands in the file of scope shop, and a scope has no scopes"),
        ("[queues.emails]\nhandler = 5\n", "queues.emails.handler: 5 is an integer"),
        ('[queues."a/b"]\nhandler = "m:f"\n', 'queues."a/b"'),
        ('[queues.q]\nhandler = "m:f"\nlimits = ["main"]\n', "there is no [limits.main]"),
        ('[queues.q]\nhandler = "m:f"\nlimits = ["shop/api"]\n', "limits"),
        (
            '[queues.q]\nhandler = "m:f"\nlimits = ["a", "a"]\n[limits.a]\nconcurrency = 2\n',
            "limits: names a more than once; name each limit once",
        ),
        ('[pools.p]\nhandler = "m:f"\nsources = ["../emails"]\n', "sources"),
    ],
)
def test_what_is_wrong_in_the_file_of_a_scope_is_said_there(tmp_path: Path, written: str, sentence: str) -> None:
    write(tmp_path, OF + written, "shop/queues.toml")
    found = said(tmp_path, "[limits.main]\nconcurrency = 1\n" + scopes(shop="shop/queues.toml"))
    assert any(problem.startswith("shop/queues.toml:") and sentence in problem for problem in found), found
    assert not [problem for problem in found if problem.startswith("queues.toml:")]


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("", "daemon.scope_of: is missing in the file of scope shop, whose clients must find the daemon"),
        ('scope_of = "../other.toml"\n', "which has this one as scope shop; let both name each other"),
        ('scope_of = "../queues.toml"\ndatabase = "mine.db"\n', "daemon.database: differs from"),
        ('scope_of = "../queues.toml"\nrun_dir = "mine"\n', "daemon.run_dir: differs from"),
        ('scope_of = "../queues.toml"\nshutdown_grace = "1s"\n', "daemon.shutdown_grace: differs from"),
        ('scope_of = "${MAIN}"\n', "paths of [daemon] take no environment values"),
    ],
)  # fmt: skip
def test_a_scope_has_no_daemon_of_its_own(tmp_path: Path, written: str, sentence: str) -> None:
    write(tmp_path, "[daemon]\n" + written + QUEUES, "shop/queues.toml")
    found = said(tmp_path, scopes(shop="shop/queues.toml"))
    assert any(problem.startswith("shop/queues.toml:") and sentence in problem for problem in found), found


def test_the_file_of_a_scope_must_be_trusted_as_every_file(main: Path, tmp_path: Path) -> None:
    (tmp_path / "shop" / "queues.toml").chmod(0o646)
    (found,) = problems(main)
    assert found.startswith("shop/queues.toml:1: file: can be written by everyone")


def test_all_files_together_have_their_bounds(tmp_path: Path) -> None:
    names = [f"s{number:02}" for number in range(65)]
    for name in names:
        write(tmp_path, OF + '[queues.q]\nhandler = "m:f"\n', f"{name}/queues.toml")
    found = said(tmp_path, scopes(**{name: f"{name}/queues.toml" for name in names}))
    assert any("is one of 65 scopes; write at most 64" in problem for problem in found)
    many = "".join(f'[queues.q{number}]\nhandler = "m:f"\nworkers = 1\n' for number in range(100))
    for name in names[:3]:
        write(tmp_path, OF + many, f"{name}/queues.toml")
    found = said(tmp_path, scopes(**{name: f"{name}/queues.toml" for name in names[:3]}))
    assert "scopes: and this file have 303 queues together; write at most 256" in found[0]
    for name in names[:2]:
        write(tmp_path, OF + "[defaults]\nworkers = 12\n" + many.replace("workers = 1\n", ""), f"{name}/queues.toml")
    found = said(tmp_path, scopes(**{name: f"{name}/queues.toml" for name in names[:2]}))
    assert "workers together; write at most 2048" in found[0]


def test_the_socket_of_a_scope_must_have_a_path_that_the_kernel_takes(main: Path, tmp_path: Path) -> None:
    run_dir = "r" * (107 - len(f"{tmp_path}//scopes/shop.sock"))
    main.write_text(f'[daemon]\nrun_dir = "{run_dir}"\n' + main.read_text())
    assert isinstance(load(main, environ={}), Spec)
    main.write_text(main.read_text().replace(run_dir, run_dir + "r"))
    assert [problem.split(": ")[1] for problem in problems(main)] == ["scopes.shop.config", "scopes.blog.config"]
    assert list(agree.of_scopes("/a/m", {"s": "/b/m"}, "/" + "r" * 90)) == []
