"""Tasks: many functions behind one queue, each named by the jobs that it runs.

    from supervisor.task import task

    @task
    def welcome(job, to: str, language: str = "en"):
        ...

A queue with `handler = "myapp.tasks"` runs the tasks of that module. The members of a job's payload are the function's
arguments, checked and converted by its annotations; the job itself comes first, if the first parameter is called `job`.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn, overload

import msgspec

from supervisor.job import TASK_NAME_MAX, VERSION_MAX, Dead, Job
from supervisor.policy.tasks import ALIASES_MAX, SCHEMA_BYTES_MAX, Known

Upgrade = Callable[[Any], Any]
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Task:
    """A function that jobs name. To call it is to call the function."""

    def __init__(self, function: Callable[..., Any], name: str, version: int, aliases: tuple[str, ...]) -> None:
        self.function = function
        self.name = _name(name)
        self.version = _version(version)
        self.aliases = tuple(map(_name, aliases))
        if len(aliases) > ALIASES_MAX:
            raise ValueError(f"task {self.name} has {len(aliases)} aliases; at most {ALIASES_MAX} are kept")
        self._upgrades: dict[int, Upgrade] = {}
        self._takes_job, self._arguments = _arguments_of(function, self.name)
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name}, version {self.version}>"

    def upgrade(self, version: int) -> Callable[[Upgrade], Upgrade]:
        """Mark the function that makes a payload of the next version from one of this version.

        Raises:
            ValueError: there is one already, or this is not an earlier version than the task's own.
        """
        if not 1 <= version < self.version:
            raise ValueError(f"task {self.name} has version {self.version}: there is nothing to upgrade from {version}")
        if version in self._upgrades:
            raise ValueError(f"task {self.name} has two upgrades from version {version}")

        def mark(function: Upgrade) -> Upgrade:
            self._upgrades[version] = function
            return function

        return mark

    @property
    def oldest(self) -> int:
        """The earliest version of its payload that it can still run."""
        oldest = self.version
        while oldest - 1 in self._upgrades:
            oldest -= 1
        return oldest

    @property
    def known(self) -> Known:
        """What is published of it."""
        return Known(self.name, self.version, self.oldest, self.aliases, self.schema())

    def schema(self) -> str | None:
        """Its payload as the text of a JSON Schema; None: anything goes, or it would be too long to be published."""
        if self._arguments is None:
            return None
        text = msgspec.json.encode(msgspec.json.schema(self._arguments))
        return text.decode() if len(text) <= SCHEMA_BYTES_MAX else None

    def run(self, job: Job) -> Any:
        """Bring the job's payload up to date and call the function with it; what that returns.

        A job without a version was written for the one that is at hand.
        """
        payload = job.payload
        for version in range(job.version or self.version, self.version):
            payload = self._upgrades[version](payload)
        job = job.with_payload(payload, self.version) if job.version != self.version else job
        if self._arguments is None:
            return self.function(job) if self._takes_job else self.function()
        try:
            arguments = msgspec.convert(payload, self._arguments, str_keys=True)
        except msgspec.ValidationError as error:
            return Dead(f"the payload does not fit task {self.name}: {error}")
        given = {name: getattr(arguments, name) for name in arguments.__struct_fields__}
        given = {name: value for name, value in given.items() if value is not msgspec.UNSET}
        return self.function(job, **given) if self._takes_job else self.function(**given)


@overload
def task(function: Callable[..., Any], /) -> Task: ...
@overload
def task(
    *, name: str | None = None, version: int = 1, aliases: Iterable[str] = ()
) -> Callable[[Callable[..., Any]], Task]: ...
def task(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, version: int = 1,
    aliases: Iterable[str] = (),
) -> Task | Callable[[Callable[..., Any]], Task]:  # fmt: skip
    """Mark a function as a task.

    Args:
        function: what runs its jobs.
        name: what jobs call it; else the function's own name.
        version: that of its payload; raise it when older payloads do not fit any more, and say how to `upgrade` them.
        aliases: what it was called before.

    Raises:
        TypeError: its parameters cannot be filled from a JSON object; the message says which.
        ValueError: a name or a version is none.
    """

    def mark(marked: Callable[..., Any]) -> Task:
        if isinstance(aliases, str):
            _refuse(f"aliases of task {name}: a list of names, not one text")
        return Task(marked, name or str(getattr(marked, "__name__", "")), version, tuple(aliases))

    return mark if function is None else mark(function)


def tasks_of(module: ModuleType) -> dict[str, Task]:
    """The tasks that a module has, by each of the names that they go by.

    Raises:
        ValueError: it has none, or one name stands for two of them.
    """
    listed = list(dict.fromkeys(found for found in vars(module).values() if isinstance(found, Task)))
    if not listed:
        raise ValueError(f"module {module.__name__} has no tasks: mark functions with @task, or write module:function")
    found: dict[str, Task] = {}
    for one in listed:
        for name in (one.name, *one.aliases):
            if found.setdefault(name, one) is not one:
                raise ValueError(f"module {module.__name__} has two tasks of the name {name}")
    return found


def _arguments_of(function: Callable[..., Any], name: str) -> tuple[bool, type[msgspec.Struct] | None]:
    """Whether the function wants the job, and what its payload must be; None: it takes nothing from the payload."""
    if inspect.iscoroutinefunction(function):
        _refuse(f"task {name} is an async function, which workers cannot run; write it without async")
    parameters = list(inspect.signature(function).parameters.values())
    takes_job = bool(parameters) and parameters[0].name == "job" and parameters[0].kind in _POSITIONAL
    wanted = parameters[1:] if takes_job else parameters
    if not wanted:
        return takes_job, None
    for parameter in wanted:
        if parameter.kind not in _NAMED:
            _refuse(
                f"task {name}: parameter {parameter} cannot be filled from a JSON object; give it a name of its own"
            )
    fields = [_field(parameter, _kind_of(function, name, parameter)) for parameter in wanted]
    struct = msgspec.defstruct(name.rpartition(".")[2], fields, forbid_unknown_fields=True, kw_only=True)
    return takes_job, struct


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _kind_of(function: Callable[..., Any], name: str, parameter: inspect.Parameter) -> Any:
    """What a parameter is annotated with; alone, as names that others use may be there for type checkers only."""
    if parameter.annotation is inspect.Parameter.empty:
        return Any
    alone = SimpleNamespace(__annotations__={"it": parameter.annotation})
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        kind = typing.get_type_hints(alone, names, include_extras=True)["it"]
    except (NameError, TypeError, SyntaxError) as error:
        _refuse(f"task {name}: the annotation of {parameter.name} means nothing: {error}")
    try:
        msgspec.json.schema(kind)
    except TypeError:
        _refuse(f"task {name}: JSON cannot hold what {parameter.name} is annotated with, {kind}")
    return kind


def _field(parameter: inspect.Parameter, kind: Any) -> Any:
    """A member of the payload; one that is left out is not given, so that the function's own default counts."""
    if parameter.default is inspect.Parameter.empty:
        return parameter.name, kind
    return parameter.name, kind | msgspec.UnsetType if kind is not Any else Any, msgspec.UNSET


def _name(name: str) -> str:
    if type(name) is not str or not 0 < len(name) <= TASK_NAME_MAX or not all("!" <= sign <= "~" for sign in name):
        raise ValueError(f"{name!r} is no name of a task: 1 to {TASK_NAME_MAX} printable ASCII characters, no blanks")
    return name


def _version(version: int) -> int:
    if type(version) is not int or not 1 <= version <= VERSION_MAX:
        raise ValueError(f"{version!r} is no version of a task: an integer from 1 to {VERSION_MAX}")
    return version


def _refuse(text: str) -> NoReturn:
    raise TypeError(text)
