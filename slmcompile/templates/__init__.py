"""How a row becomes text that is trained: declarations alone. Their programs are in ``data/``."""

from __future__ import annotations

from slmcompile.registry.table import Table
from slmcompile.templates.template import Template

TEMPLATES: Table[Template] = Table(
    "template", __name__, lambda template: (template.place, template.name)
)
