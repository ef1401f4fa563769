"""YAML read strictly: a key once, nothing by reference, and one line for what is wrong."""

from typing import Any

import yaml

from milib.checks import shown
from milib.errors import UserError

DATES = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """Safe YAML without dates, as papermill reads it."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()
            line = event.start_mark.line + 1
            raise UserError(f"line {line}: *{event.anchor} is a reference: write its value out")
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if key.tag == "tag:yaml.org,2002:merge":
                raise UserError(f"line {line} merges tables by <<: write the keys out")
            if name in lines:
                both = f"line {line}" if lines[name] == line else f"lines {lines[name]} and {line}"
                raise UserError(f"{shown(key.value)} stands twice ({both}): keep one")
            lines[name] = line
        return node


_Loader.yaml_implicit_resolvers = {
    first: [known for known in resolvers if known[0] != DATES]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(where: str, text: str) -> Any:
    """What a YAML text holds.

    - where: the file or the option that it stands in, for the error.
    - text: the text.

    Raises UserError where it is not YAML, has a key twice or a reference, or is nested too deep.
    """
    try:
        return yaml.load(text, _Loader)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except RecursionError:
        raise UserError(f"{where} is nested too deep: four levels at most") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{where} is not YAML: line {line}: {_one_line(error.problem)}") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        # the others come from a tag whose value is not of its kind, or a number without end
        raise UserError(f"{where} is not YAML: {_one_line(error)}") from None


def _one_line(words: object) -> str:
    return " ".join(str(words).split())[:200]
