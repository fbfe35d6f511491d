"""Templates of pages."""

from importlib import resources

import jinja2

__all__ = ["page_template"]


def page_template(package: str, name: str) -> jinja2.Template:
    """Return a template that lies in a package. It escapes every value, and an unknown name is an error."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(resources.files(package).joinpath(name).read_text(encoding="utf-8"))
