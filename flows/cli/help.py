"""Help pages in the words of the manual: arguments by their names, flags without a type, choices as words.

Typer shows the Python type of each parameter (``TABLE_URI <str>``, ``--json <bool>``). A reader needs the name only.
"""

from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

__all__ = ["Command", "Group"]


class _Argument(TyperArgument):
    def display_type_rich(self, ctx: Any) -> str | None:
        """Return the choices, where there are some."""
        return _choices(self, ctx)

    def get_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ARG002  (the signature of Typer)
        """Return the name; in brackets if it may be left out, with dots if it may be repeated."""
        name = self.display_name_raw
        return [(name if self.required else f"[{name}]") + ("" if self.nargs == 1 else "...")]


class _Option(TyperOption):
    def display_type_rich(self, ctx: Any) -> str | None:
        """Return the name of the value; else the choices, where there are some."""
        return self.metavar if self.metavar is not None else _choices(self, ctx)


def _choices(parameter: TyperArgument | TyperOption, ctx: Any) -> str | None:
    return parameter.display_type(ctx).strip("<>") if parameter.type_descriptor.is_choice else None


def _in_plain_words(parameters: list[Any]) -> list[Any]:
    """Make the parameters of a command describe themselves as above; Typer has no setting for their classes."""
    for parameter in parameters:
        if isinstance(parameter, TyperArgument):
            parameter.__class__ = _Argument
        elif isinstance(parameter, TyperOption):
            parameter.__class__ = _Option
    return parameters


class Command(TyperCommand):
    """A command with help in plain words."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, ``--help`` included."""
        return _in_plain_words(super().get_params(ctx))


class Group(TyperGroup):
    """Help of a group of commands, in the same form."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, ``--help`` included."""
        return _in_plain_words(super().get_params(ctx))
