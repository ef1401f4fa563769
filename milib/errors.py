"""The one error a user is meant to read."""


class UserError(ValueError):
    """One line: what is wrong, where, and what to do. Raised for anything a user can mend."""

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: a notebook cell shows the line alone, without the stack."""
        return [f"{type(self).__name__}: {self}"]
