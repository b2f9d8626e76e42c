"""jobsctl completion: what makes a shell complete commands, options and the names of queues."""

from __future__ import annotations

import click

from supervisor.cli.invocation import jobsctl_command


@jobsctl_command(
    examples=[
        "jobsctl completion bash > /etc/bash_completion.d/jobsctl",
        'jobsctl completion zsh > "${fpath[1]}/_jobsctl"',
        "jobsctl completion fish > ~/.config/fish/completions/jobsctl.fish",
    ]
)
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell."""
    import sys

    from click.shell_completion import get_completion_class

    from supervisor.cli.jobsctl import COMPLETE_VARIABLE, jobsctl

    kind = get_completion_class(shell)
    assert kind is not None, "every shell of the choice is known to click"
    script = kind(jobsctl, {}, "jobsctl", COMPLETE_VARIABLE).source()
    sys.stdout.write(script + "\n")
