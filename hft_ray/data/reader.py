"""Takes the fields of one record, and says what is wrong with them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hft_ray.config import ConfigError, Problem
from hft_ray.data.examples import TURNS_ALONE, Message, TemplateArguments
from hft_ray.data.field_renames import renames
from hft_ray.data.record_values import object_of
from hft_ray.data.records import Record

# Parameters of apply_chat_template that a record cannot set.
_RESERVED = frozenset(
    (
        *("conversation", "tools", "chat_template", "add_generation_prompt", "tokenize"),
        *("continue_final_message", "padding", "truncation", "max_length", "return_tensors"),
        *("return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "processor_kwargs"),
    )
)


@dataclass(frozen=True)
class FieldReader:
    """The fields of one record.

    Attributes:
        record: The record.
        form: Its format, for errors.
        where: Where it was read, for errors.
    """

    record: Record
    form: str
    where: str

    def error(self, message: str, *given: Any) -> ConfigError:
        """Return the error that says ``message`` of the record."""
        return ConfigError(Problem(self.where, message, *given))

    def has(self, name: str) -> bool:
        """Whether a field says something: null, "", [] and {} do not."""
        return bool(self.record.get(name))

    def field(self, name: str) -> Any:
        """Return a field that the format needs."""
        if name not in self.record:
            message = f"lacks the field {name!r} that format {self.form} needs"
            hint = renames(self.record, self.form, name)
            raise self.error(f"{message}{hint}; it has", list(self.record))
        if self.record[name] is None:
            raise self.error(f"field {name!r} is null; format {self.form} needs it")
        return self.record[name]

    def string(self, name: str) -> str:
        """Return a field that is a string."""
        value = self.field(name)
        if not isinstance(value, str):
            raise self.error(f"field {name!r} must be a string", value)
        return value

    def optional(self, name: str) -> str:
        """Return a field that is a string, or "" where there is none."""
        return "" if self.record.get(name) is None else self.string(name)

    def parsed(self, value: Any, name: str) -> Any:
        """Return ``value``, of JSON where it is a string of JSON."""
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value, object_pairs_hook=object_of) if value.strip() else None
        except (ValueError, RecursionError) as error:
            raise self.error(f"{name} is a string that is not valid JSON: {error}", value) from None

    def system(self) -> list[Message]:
        """Return the system turn that stands beside the others, or none."""
        given = {name: text for name in SYSTEM if (text := self.optional(name))}
        if len(set(given.values())) > 1:
            raise self.error("has two fields for the system's text: keep one", given)
        return [Message("system", text, trained=False) for text in [*given.values()][:1]]

    def arguments(self) -> TemplateArguments:
        """Return what the record gives the chat template beside the turns."""
        if not any(self.has(name) for name in ARGUMENTS):
            return TURNS_ALONE
        settings = self.record.get("chat_template_kwargs") or {}
        if not isinstance(settings, dict):
            raise self.error("field 'chat_template_kwargs' must be an object", settings)
        if taken := _RESERVED.intersection(settings):
            names = ", ".join(sorted(taken))
            raise self.error(f"field 'chat_template_kwargs' cannot set {names}", settings)
        return TemplateArguments(tuple(self._tools()), settings)

    def _tools(self) -> list[dict[str, Any]]:
        tools: list[dict[str, Any]] = []
        for name in ("tools", "functions"):
            given = self.parsed(self.record.get(name), f"field {name!r}") or []
            for each in given if isinstance(given, list) else [given]:
                tool = self.parsed(each, f"field {name!r}")
                function = tool.get("function", tool) if isinstance(tool, dict) else None
                if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                    message = (
                        f"field {name!r} must be a list of functions, each "
                        '{"type": "function", "function": {"name", "description", "parameters"}}'
                    )
                    raise self.error(message, given)
                tools.append(tool if "function" in tool else {"type": "function", "function": tool})
        return tools


SYSTEM = ("system", "system_prompt")
"""Fields that hold the text of a system turn."""
ARGUMENTS = ("tools", "functions", "chat_template_kwargs")
"""Fields that the chat template is given beside the turns."""
