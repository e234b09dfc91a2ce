"""The file in a ``multipart/form-data`` body, handed on piece by piece as it arrives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from skinoct_server.problems import HttpProblem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = "image"
_MOST_PARTS = 8
_MOST_HEADER_BYTES = 8192
_HINT = (
    f"Send the tomogram as the one file of a multipart/form-data body, in the field `{FIELD}` "
    f"(curl -F {FIELD}=@tomogram.tif), or as the plain body (curl --data-binary @tomogram.tif)."
)


class FormFile:
    """Finds the part named ``image``; other fields are skipped, a second file is refused."""

    def __init__(self, content_type: str) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise HttpProblem("bad-request", f"The form has no boundary. {_HINT}")
        self.file_name: str | None = None
        self.found = False
        self._wanted = False
        self._parts = 0
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
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise HttpProblem("bad-request", f"The form has more than {_MOST_PARTS} parts. {_HINT}")
        self._headers, self._name, self._value = {}, bytearray(), bytearray()

    def _grow(self, target: bytearray, data: bytes) -> None:
        target += data
        if len(target) > _MOST_HEADER_BYTES or len(self._headers) > _MOST_PARTS:
            raise HttpProblem("bad-request", f"A header within the form is too long. {_HINT}")

    def _header_end(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        is_file = b"filename" in options
        self._wanted = is_file and options.get(b"name") == FIELD.encode()
        if is_file and self.found:
            raise HttpProblem("bad-request", f"The form has more than one file. {_HINT}")
        if self._wanted:
            self.found = True
            self.file_name = options[b"filename"].decode("utf-8", "replace")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self._data += data[start:end]
