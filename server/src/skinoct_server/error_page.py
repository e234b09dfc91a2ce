"""``docs/errors.md`` from the kinds of problems: ``python -m skinoct_server.error_page > docs/errors.md``."""

from __future__ import annotations

from http import HTTPStatus

from skinoct_server.problems import KINDS, TYPE_PREFIX

_HEAD = """# Errors of skinoct-server

Every error is an RFC 9457 problem (`application/problem+json`). `detail` says in words what is wrong and what to
do; `type` never changes and is what programs should look at; `instance` is the request id (also in the header
`X-Request-Id`) to quote when asking for help. Answers 429 and 503 carry `Retry-After` in seconds where waiting
helps. A job that failed has the same problem in `GET /jobs/{id}` and as the answer of `GET /jobs/{id}/result`.

`type` is `"""

_TABLE = """` followed by:

| kind | status | what it means | cure |
|---|---|---|---|
"""


def page() -> str:
    """Return the page as Markdown."""
    rows = [
        f"| `{kind}` | {info.status} {HTTPStatus(info.status).phrase} | {info.title} | {info.cure} |"
        for kind, info in sorted(KINDS.items(), key=lambda item: (item[1].status, item[0]))
    ]
    return f"{_HEAD}{TYPE_PREFIX}{_TABLE}" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(page(), end="")
