"""What a request for a segmentation may choose, in the query or in the text fields of a form.

A name that is misspelt, or given twice, is refused: ignored, it would give an answer in the wrong scale or of the wrong
model, and nobody would see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from skinoct.segmentation import Decode
from skinoct_server.problems import HttpProblem


@dataclass(frozen=True)
class Parameters:
    """Query of ``/segment`` and ``/jobs``, or text fields of their form."""

    model: Annotated[
        str | None,
        Query(description="Name from `GET /models`; the server's default when left out.", max_length=100),
    ] = None
    pixel_size_um: Annotated[
        float | None,
        Query(
            description="Micrometers per pixel in depth and width; when left out, the file's own "
            "calibration, else the model's.",
            ge=0.1,
            le=10,
            allow_inf_nan=False,
        ),
    ] = None
    decode: Annotated[
        Decode,
        Query(description="`ordered`: smooth layers in anatomical order. `pixel`: the best class of each pixel."),
    ] = "ordered"


NAMES = tuple(field.name for field in fields(Parameters))
_ADAPTER = TypeAdapter(Parameters)
FIELD_SCHEMAS: dict[str, Any] = _ADAPTER.json_schema()["properties"]
"""Of the form's text fields, for OpenAPI."""


def unknown(name: str) -> HttpProblem:
    """Return the problem of a parameter that there is not."""
    text = f"There is no parameter {name[:100]!r}, only {', '.join(NAMES)}. Correct its name, or leave it out."
    return HttpProblem("invalid-request", text)


def repeated(name: str) -> HttpProblem:
    """Return the problem of a parameter that is given twice."""
    return HttpProblem("invalid-request", f"The parameter {name} is given more than once. Give it once.")


def from_query(request: Request, parameters: Annotated[Parameters, Depends()]) -> Parameters:
    """Return the parameters of the query.

    Raises
    ------
    HttpProblem
        ``invalid-request`` for a key that is none of them, or comes twice.
    """
    seen = set[str]()
    for name, _ in request.query_params.multi_items():
        if name not in NAMES:
            raise unknown(name)
        if name in seen:
            raise repeated(name)
        seen.add(name)
    return parameters


def with_fields(parameters: Parameters, texts: Mapping[str, str], query: Mapping[str, str]) -> Parameters:
    """Return ``parameters`` of the ``query`` together with those in the text fields of a form.

    Raises
    ------
    HttpProblem
        ``invalid-request`` for one that stands in both.
    RequestValidationError
        For a value that cannot be one.
    """
    for name in texts:
        if name in query:
            raise repeated(name)
    try:
        return _ADAPTER.validate_python({**asdict(parameters), **texts})
    except ValidationError as error:
        found = [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
        raise RequestValidationError(found) from None


ParametersDep = Annotated[Parameters, Depends(from_query)]
