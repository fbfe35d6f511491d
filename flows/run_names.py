"""Name flow runs after their job. A name that a person typed stays; a name that Prefect made up is replaced."""

import re
from collections.abc import Callable

from prefect.runtime import flow_run

__all__ = ["named_after"]

MADE_UP = re.compile(r"[a-z]+-[a-z]+|[A-Z][a-z]+-[A-Z][a-z]+")
"""Prefect makes up names of an adjective and an animal: ``small-bombay`` on the server, ``Small-Bombay`` in the form."""


def named_after(template: str) -> Callable[[], str]:
    """Return a function that names the current run, for the ``flow_run_name`` of a flow.

    Args:
        template: the name with the flow's parameters in braces, such as ``refresh {table_uri}``.
    """

    def name() -> str:
        given = flow_run.get_name()
        if given and not MADE_UP.fullmatch(given):
            return given
        return template.format(**flow_run.get_parameters())

    return name
