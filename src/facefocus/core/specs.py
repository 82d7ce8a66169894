"""Specs: what a user's TOML file says, as frozen pydantic models, with one clear message per field.

Experiments, studies, recipes and the entries of the zoo are read by `parse` and written by
`to_toml`. A wrong field is ``The 'x' of [y] must be ... Got ....``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar, get_args

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from facefocus.core.errors import UserError, did_you_mean

T = TypeVar("T")
S = TypeVar("S", bound="Spec")


class Spec(BaseModel):
    """Frozen, and strict about names: a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


# --- fields ---------------------------------------------------------------------------------------


def as_tuple(value: Any) -> Any:
    """A list as a tuple, anything else as a tuple of one: every field may be given either way."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """Each value once however often it is given: the second time would only repeat its rows."""
    return tuple(value for index, value in enumerate(values) if value not in values[:index])


#: One value or a list of them, each once.
Several = Annotated[
    tuple[T, ...], BeforeValidator(as_tuple), Field(min_length=1), AfterValidator(distinct)
]
#: None, one or several values, each once.
ZeroOrMore = Annotated[tuple[T, ...], BeforeValidator(as_tuple), AfterValidator(distinct)]


def _number(value: Any) -> Any:
    """A number as it is; true, false and texts, which pydantic would convert, are refused."""
    if not isinstance(value, bool | str):
        return value
    hint = f" Did you mean {value}?" if re.fullmatch(r"-?\d+(\.\d+)?", str(value)) else ""
    raise wrong("a number", value, hint)


Whole = Annotated[int, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]

#: What experiments, variants and recipes can be called: their results are folders of that name.
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
Name = Annotated[str, Field(pattern=f"^{NAME}$")]


def wrong(expected: str, got: object, suggestion: str = "") -> PydanticCustomError:
    """The error of a field: ``The 'x' of [y] must be <expected>. Got <got>.<suggestion>``."""
    return PydanticCustomError("field", "{text}", {"text": f"{expected}. Got {got!r}.{suggestion}"})


def whole_message(text: str) -> PydanticCustomError:
    """An error whose message is `text`, whichever field it is of."""
    return PydanticCustomError("own", "{text}", {"text": text})


@contextmanager
def user_errors() -> Iterator[None]:
    """Inside a validator: the message of a `UserError` is that of the field."""
    try:
        yield
    except UserError as error:
        raise whole_message(str(error)) from None


def check_known(names: Iterable[str], known: Collection[str]) -> None:
    """Refuse names that are not known, as the error of a field."""
    for name in names:
        if name not in known:
            raise wrong(f"one of {', '.join(known)}", name, did_you_mean(str(name), known))


# --- files ----------------------------------------------------------------------------------------


def parse(model: type[S], data: Mapping[str, Any], title: str) -> S:
    """A spec from plain data.

    Args:
        model: The spec; fields that are specs are tables of the file.
        data: What the file says.
        title: What to call the file in a message.

    Raises:
        UserError: A field is wrong; one line per field.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        lines = dict.fromkeys(_message(detail, model, title) for detail in error.errors())
        raise UserError("\n".join(lines)) from None


def to_toml(data: Mapping[str, Any] | Spec, comments: Iterable[str] = ()) -> str:
    """Plain data, or what a spec says besides its defaults, as TOML below some comments."""
    if isinstance(data, Spec):
        data = data.model_dump(exclude_none=True, exclude_defaults=True)
    return "".join(f"# {line}\n" for line in comments) + tomli_w.dumps(data)


# --- messages -------------------------------------------------------------------------------------


def tables(model: type[Spec]) -> dict[str, type[Spec]]:
    """The fields of a spec that are specs, with the spec of each."""

    def inside(annotation: Any) -> Iterator[type[Spec]]:
        if isinstance(annotation, type) and issubclass(annotation, Spec):
            yield annotation
        for part in get_args(annotation):
            yield from inside(part)

    fields = model.model_fields.items()
    return {name: part for name, field in fields for part in inside(field.annotation)}


#: Expectations behind pydantic's error types, in the words of our messages.
_EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a text in quotes",
    "tuple_type": "a list",
    "dict_type": "a table of fields",
    "finite_number": "a finite number",
    "too_short": "a list with at least one entry",
    "greater_than": "greater than {gt:g}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "literal_error": "one of {expected}",
    "string_pattern_mismatch": "letters, digits, '.', '_' and '-'",
    "model_type": "a table of fields",
    "model_attributes_type": "a table of fields",
}


def _message(detail: ErrorDetails, model: type[Spec], title: str) -> str:
    """One line for one of pydantic's findings."""
    sections = tables(model)
    words = [part for part in detail["loc"] if isinstance(part, str)]
    section = words[0] if words and words[0] in sections else None
    field = words[1] if section and len(words) > 1 else words[0] if words else title
    of_section = f" of [{section}]" if section and len(words) > 1 else f" of the {title}"
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = sections[section].model_fields if section else model.model_fields
        where = f"[{section}]" if section else f"The {title}"
        return f"{where} has no field '{field}'. Known: {', '.join(known)}." + did_you_mean(
            field, known
        )
    if kind == "missing":
        return f"The '{field}'{of_section} is missing."
    if kind == "own":
        return str(context["text"])
    if kind == "field":
        return f"The '{field}'{of_section} must be {context['text']}"
    plain = detail["msg"].removeprefix("Input should be ")
    expected = _EXPECTED.get(kind, "{plain}").format(plain=plain, **context)
    got = detail["input"]
    options = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
    hint = did_you_mean(got, options) if kind == "literal_error" and isinstance(got, str) else ""
    return f"The '{field}'{of_section} must be {expected}. Got {got!r}.{hint}"
