"""The base class of all sections of FILE, and types that they share."""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NAMED = "names are letters, digits and . _ - (at most 100), a letter or digit first"
Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
Fraction = Annotated[float, Field(gt=0, le=1)]
FieldName = Annotated[str, Field(min_length=1)]
PositiveInt = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of all sections.

    Unknown keys, numbers that are not finite, and true or false for anything but a switch are
    refused.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _no_bool_for_other_types(cls, content: Any) -> Any:
        # Python, and so pydantic, takes true for the number 1.
        if not isinstance(content, dict):
            return content
        for name, field in cls.model_fields.items():
            if isinstance(content.get(name), bool) and not _takes(field.annotation, bool):
                given = str(content[name]).lower()
                raise ValueError(
                    f"{name} is {given}, but does not take true or false; text such as on, off, "
                    "yes or no needs quotes"
                )
        return content


def _takes(annotation: Any, kind: type) -> bool:
    """Whether a field of this annotation takes values of ``kind``."""
    return annotation in (kind, Any) or any(_takes(each, kind) for each in get_args(annotation))
