"""The file in a ``multipart/form-data`` body, handed on piece by piece as it arrives, and the text fields beside it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from skinoct_server.parameters import NAMES, repeated, unknown
from skinoct_server.problems import HttpProblem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = "image"
_MOST_HEADERS = 8
_MOST_HEADER_BYTES = 8192
_MOST_TEXT_BYTES = 1000
_HINT = (
    f"Send the tomogram as the one file of a multipart/form-data body, in the field `{FIELD}` "
    f"(curl -F {FIELD}=@tomogram.tif), or as the plain body (curl --data-binary @tomogram.tif)."
)


class FormFile:
    """Finds the part named ``image`` and collects the parameters beside it; any other part is refused."""

    def __init__(self, content_type: str) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise HttpProblem("bad-request", f"The form has no boundary. {_HINT}")
        self.file_name: str | None = None
        self.found = False
        self._texts = dict[str, bytearray]()
        self._text: bytearray | None = None
        """Of the part at hand, where that is a parameter."""
        self._data = bytearray()
        self._name, self._value, self._headers = bytearray(), bytearray(), dict[bytes, bytes]()
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._grow(self._name, data[start:end]),
            "on_header_value": lambda data, start, end: self._grow(self._value, data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError:  # RFC 2046 allows 70 characters
            raise HttpProblem("bad-request", f"The form's boundary is too long. {_HINT}") from None

    @property
    def fields(self) -> dict[str, str]:
        """Values of the text fields by name, once the whole form was read."""
        return {name: text.decode("utf-8", "replace") for name, text in self._texts.items()}

    async def pieces(self, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the file.

        Raises
        ------
        HttpProblem
            ``bad-request`` when the form is not well-formed or not as it should be.
        """
        try:
            async for chunk in body:
                self._parser.write(chunk)
                if self._data:
                    yield bytes(self._data)
                    self._data.clear()
            self._parser.finalize()
        except FormParserError:
            raise HttpProblem("bad-request", f"The form is not well-formed. {_HINT}") from None
        if not self.found:
            raise HttpProblem("bad-request", f"The form has no file in a field named `{FIELD}`. {_HINT}")

    def _begin(self) -> None:
        self._headers, self._name, self._value = {}, bytearray(), bytearray()

    def _grow(self, target: bytearray, data: bytes) -> None:
        target += data
        if len(target) > _MOST_HEADER_BYTES or len(self._headers) > _MOST_HEADERS:
            raise HttpProblem("bad-request", f"A header within the form is too long. {_HINT}")

    def _header_end(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            self._begin_file(name, options[b"filename"].decode("utf-8", "replace"))
        elif name == FIELD:
            raise HttpProblem("bad-request", f"The field `{FIELD}` of the form is text, not a file. {_HINT}")
        else:
            self._begin_text(name)

    def _begin_file(self, name: str, file_name: str) -> None:
        if self.found:
            raise HttpProblem("bad-request", f"The form has more than one file. {_HINT}")
        if name != FIELD:
            raise HttpProblem("bad-request", f"The form has its file in the field {name[:100]!r}. {_HINT}")
        self.found, self.file_name, self._text = True, file_name, None

    def _begin_text(self, name: str) -> None:
        if name not in NAMES:
            raise unknown(name)
        if name in self._texts:
            raise repeated(name)
        self._text = self._texts[name] = bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._text is None:
            self._data += data[start:end]
            return
        self._text += data[start:end]
        if len(self._text) > _MOST_TEXT_BYTES:
            raise HttpProblem("bad-request", f"A text field of the form is too long. {_HINT}")
