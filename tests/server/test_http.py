"""The HTTP contract on a real server: answers, negotiation, problems, health while it works."""

from __future__ import annotations

import concurrent.futures
import hashlib
import io
import re
import socket
import zipfile

import httpx
import numpy as np
import pytest
import tifffile

from skinoct.wire import ModelInfo, Problem, ServerInfo

TYPES = {
    "image/tiff": "labels.tif",
    "application/x-npy": "labels.npy",
    "application/zip": "RoiSet.zip",
    "application/json": "measurements.json",
    "text/csv": "measurements.csv",
}


def problem(answer: httpx.Response) -> Problem:
    assert answer.headers["content-type"] == "application/problem+json"
    parsed = Problem.model_validate_json(answer.content)
    assert parsed.status == answer.status_code
    assert parsed.type.startswith("urn:skinoct:problem:")
    assert parsed.instance == answer.headers["x-request-id"]
    assert "Traceback" not in parsed.detail
    assert len(parsed.detail) > 20
    return parsed


@pytest.mark.parametrize("media_type", TYPES)
def test_each_answer_format(live_server, make_tiff, media_type):
    answer = live_server.http.post("/segment", content=make_tiff(), headers={"Accept": media_type})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].split(";")[0] == media_type
    assert TYPES[media_type] in answer.headers["content-disposition"]
    assert answer.headers["x-skinoct-model"] == "tiny"
    assert len(answer.headers["x-skinoct-model-sha256"]) == 64
    assert answer.headers["x-skinoct-input-sha256"] == hashlib.sha256(make_tiff()).hexdigest()
    assert "segment;dur=" in answer.headers["server-timing"]


def test_default_answer_is_a_label_tiff(live_server, make_tiff):
    answer = live_server.http.post("/segment", content=make_tiff(5, 48, 80))
    labels = tifffile.imread(io.BytesIO(answer.content))
    assert labels.shape == (5, 48, 80)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {1, 2, 3, 4, 5}


def test_form_and_raw_and_npy_bodies_agree(live_server, make_tiff, make_tomogram):
    npy = io.BytesIO()
    np.save(npy, make_tomogram())
    raw = live_server.http.post("/segment", content=make_tiff(), headers={"Accept": "application/x-npy"})
    form = live_server.http.post(
        "/segment", files={"image": ("a.tif", make_tiff())}, headers={"Accept": "application/x-npy"}
    )
    array = live_server.http.post(
        "/segment?pixel_size_um=0.9", content=npy.getvalue(), headers={"Accept": "application/x-npy"}
    )
    assert raw.status_code == 200
    assert raw.content == form.content == array.content


def test_chunked_upload(live_server, make_tiff):
    body = make_tiff()
    answer = live_server.http.post("/segment", content=(body[i : i + 1000] for i in range(0, len(body), 1000)))
    assert answer.status_code == 200


def test_pixel_decoding(live_server, make_tiff):
    answer = live_server.http.post(
        "/segment?decode=pixel", content=make_tiff(4, 40, 60), headers={"Accept": "application/x-npy"}
    )
    assert np.load(io.BytesIO(answer.content)).shape == (4, 40, 60)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "image/tiff"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "image/tiff"),
        ("image/*", "image/tiff"),
        ("text/*", "text/csv"),
        ("image/tiff;q=0.1, application/x-npy;q=0.9", "application/x-npy"),
        ("image/tiff;q=0, */*", "application/x-npy"),
    ],
)
def test_accept_rules(live_server, make_tiff, accept, expected):
    answer = live_server.http.post("/segment", content=make_tiff(1, 32, 32), headers={"Accept": accept})
    assert answer.headers["content-type"].split(";")[0] == expected


def test_accept_in_two_lines_is_one_list(live_server, make_tiff):
    headers = [("Accept", "image/png"), ("Accept", "application/x-npy")]
    answer = live_server.http.send(
        httpx.Request("POST", f"{live_server.url}/segment", headers=headers, content=make_tiff(1, 32, 32))
    )
    assert answer.headers["content-type"] == "application/x-npy"


@pytest.mark.parametrize("accept", ["image/png", "image/tiff;q=0", "nonsense"])
def test_not_acceptable_is_told_before_the_upload_counts(live_server, accept):
    answer = live_server.http.post("/segment", content=b"", headers={"Accept": accept})
    assert answer.status_code == 406
    assert "application/zip" in problem(answer).detail


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/segment", 405, "method-not-allowed"),
        ("DELETE", "/models", 405, "method-not-allowed"),
        ("POST", "/segment?decode=best", 422, "invalid-request"),
        ("POST", "/segment?pixel_size_um=nan", 422, "invalid-request"),
        ("POST", "/segment?pixel_size_um=1e9", 422, "invalid-request"),
        ("POST", "/segment?pixel_size=2", 422, "invalid-request"),
        ("POST", "/jobs?Model=tiny", 422, "invalid-request"),
        ("POST", "/segment?pixel_size_um=2&pixel_size_um=1", 422, "invalid-request"),
        ("POST", "/segment?model=other", 404, "unknown-model"),
        ("POST", "/segment", 422, "empty"),
        ("GET", "/models/other", 404, "unknown-model"),
        ("PUT", "/models/default", 422, "invalid-request"),
        ("GET", "/jobs/none", 404, "unknown-job"),
        ("GET", "/jobs/none/events", 404, "unknown-job"),
        ("GET", "/jobs/none/result", 404, "unknown-job"),
        ("DELETE", "/jobs/none", 404, "unknown-job"),
    ],
)
def test_every_error_is_a_problem(live_server, method, path, status, kind):
    answer = live_server.http.request(method, path)
    assert answer.status_code == status
    assert problem(answer).type == f"urn:skinoct:problem:{kind}"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"hello", "not-a-tomogram"),
        (b"PK\x03\x04" + bytes(50), "not-a-tomogram"),
        (b"II*\x00\x08\x00\x00\x00", "truncated"),
    ],
)
def test_bad_bodies(live_server, body, kind):
    answer = live_server.http.post("/segment", content=body)
    assert answer.status_code == 422
    assert problem(answer).type.endswith(kind)


def test_form_without_image_field(live_server, make_tiff):
    answer = live_server.http.post("/segment", files={"file": ("a.tif", make_tiff(1, 32, 32))})
    assert answer.status_code == 400
    assert "image" in problem(answer).detail


def test_two_files_in_a_form(live_server, make_tiff):
    files = [("image", ("a.tif", make_tiff(1, 32, 32))), ("image", ("b.tif", make_tiff(1, 32, 32)))]
    assert problem(live_server.http.post("/segment", files=files)).status == 400


def test_a_form_with_an_endless_boundary(live_server):
    headers = {"Content-Type": f"multipart/form-data; boundary={'a' * 5000}"}
    answer = live_server.http.post("/segment", content=b"x", headers=headers)
    assert problem(answer).type.endswith("bad-request")


@pytest.mark.parametrize("value", ["bytes=0-1", "bytes=999999999-", "bytes=5-2", "bytes=a", "lines=1"])
def test_a_result_comes_whole_whatever_range_is_asked_for(live_server, make_tiff, post_job, follow, value):
    job = post_job(live_server.http, make_tiff(1, 32, 32))
    follow(live_server.http, job.id)
    whole = live_server.http.get(f"/jobs/{job.id}/result")
    answer = live_server.http.get(f"/jobs/{job.id}/result", headers={"Range": value})
    assert answer.status_code == 200
    assert answer.content == whole.content
    assert answer.headers["accept-ranges"] == "none"


def test_parameters_in_a_form_count_as_in_the_query(live_server, make_tiff):
    accept, query = {"Accept": "application/json"}, {"pixel_size_um": "1.5", "decode": "pixel", "model": "tiny"}
    in_query = live_server.http.post("/segment", params=query, content=make_tiff(2, 40, 48), headers=accept)
    plain = live_server.http.post("/segment", content=make_tiff(2, 40, 48), headers=accept)
    files = [("image", ("uploaded", make_tiff(2, 40, 48))), *((name, (None, text)) for name, text in query.items())]
    for parts in (files, files[::-1], [*files[2:], *files[:2]]):
        in_form = live_server.http.post("/segment", files=parts, headers=accept)
        assert in_form.status_code == 200, in_form.text
        assert in_form.json() == in_query.json() != plain.json()


@pytest.mark.parametrize(
    ("query", "field", "text", "word"),
    [
        ("", "pixel_size", "2", "pixel_size_um"),
        ("", "pixel_size_um", "two", "pixel_size_um"),
        ("", "pixel_size_um", "1e9", "less than or equal to 10"),
        ("", "decode", "best", "ordered"),
        ("?pixel_size_um=1", "pixel_size_um", "2", "more than once"),
        ("?pixel_size_um=2", "pixel_size_um", "2", "more than once"),
    ],
)
@pytest.mark.parametrize("path", ["/segment", "/jobs"])
def test_a_form_whose_parameters_cannot_be_used_is_refused(live_server, make_tiff, path, query, field, text, word):
    answer = live_server.http.post(
        path + query, files=[("image", ("a.tif", make_tiff(1, 32, 32))), (field, (None, text))]
    )
    assert answer.status_code == 422
    assert problem(answer).type.endswith("invalid-request")
    assert word in problem(answer).detail
    assert live_server.http.get("/readyz").json()["jobs"] == 0


def test_a_form_may_name_the_model(live_server, make_tiff):
    answer = live_server.http.post("/segment", files={"image": make_tiff(1, 32, 32), "model": (None, "other")})
    assert problem(answer).type.endswith("unknown-model")


def test_compressed_body_is_refused(live_server):
    answer = live_server.http.post("/segment", content=b"x", headers={"Content-Encoding": "gzip"})
    assert problem(answer).status == 415


def test_a_file_name_is_shown_without_its_folders(live_server):
    answer = live_server.http.post("/segment", files={"image": ("../../etc/pass\x07wd.tif", b"hello")})
    detail = problem(answer).detail
    assert "passwd.tif" in detail or "pass%07wd.tif" in detail
    assert "etc" not in detail


def test_what_is_not_http_gets_a_problem(live_server):
    host, port = live_server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 5) as client:
        client.sendall(b"\x00\x01 nonsense\r\n\r\n")
        answer = client.makefile("rb").read()
    assert b" 400 " in answer.splitlines()[0]
    assert b"application/problem+json" in answer


def test_models_and_health(live_server):
    info = ServerInfo.model_validate_json(live_server.http.get("/healthz").content)
    assert info.status == "ok"
    models = [ModelInfo(**m) for m in live_server.http.get("/models").json()]
    assert [m.name for m in models if m.default] == ["tiny"]
    assert live_server.http.get("/models/tiny").json()["sha256"] == models[0].sha256
    assert live_server.http.get("/docs").status_code == 200
    assert live_server.http.get("/readyz").json()["status"] == "ready"


def test_description_is_a_page_that_needs_no_internet(live_server):
    """Every call and every limit, without a script, and without anything from another server."""
    page = live_server.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.findall(r"<script|<link|<img|src=|https?://", page.text)
    schema = live_server.http.get("/openapi.json").json()
    for path, operations in schema["paths"].items():
        for method, call in operations.items():
            assert f"{method.upper()} {path}" in page.text
            for parameter in call.get("parameters", []):
                assert f"<code>{parameter['name']}</code>" in page.text
    limits = re.findall(r"\| (.+?) \| (.+?) \| `(\w+)` \|", schema["info"]["description"])
    assert len(limits) > 10
    for text, value, name in limits:
        assert f"<td>{text}</td><td>{value}</td><td><code>{name}</code></td>" in page.text


def test_plugin_for_a_workstation_without_python_is_offered_with_a_page(live_server):
    page = live_server.http.get("/fiji")
    assert page.headers["content-type"].startswith("text/html")
    assert f"<code>{live_server.url}</code>" in page.text
    (link,) = re.findall(r'href="([^"]+)"', page.text)
    answer = live_server.http.get(f"/{link}")
    assert answer.headers["content-type"] == "application/zip"
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert "scripts/Plugins/Skin/Segment_skin.bsh" in names
    assert "lib/skinoct/common.bsh" in names


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/jobs/abc", {"GET", "HEAD", "DELETE"}),
        ("POST", "/models/default", {"GET", "HEAD", "PUT"}),
        ("GET", "/jobs", {"POST"}),
        ("HEAD", "/segment", {"POST"}),
        ("HEAD", "/jobs/abc/result", {"GET"}),
        ("HEAD", "/jobs/abc/events", {"GET"}),
        ("POST", "/docs", {"GET", "HEAD"}),
    ],
)
def test_allow_names_every_method_of_an_address(live_server, method, path, allowed):
    answer = live_server.http.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_head_is_get_without_its_body(live_server, make_tiff, post_job, follow):
    job = post_job(live_server.http, make_tiff(1, 32, 32))
    follow(live_server.http, job.id)
    paths = ("/healthz", "/readyz", "/models", "/models/tiny", "/models/none", "/docs", "/fiji", "/openapi.json")
    for path in (*paths, f"/jobs/{job.id}", "/jobs/none", "/nothing"):
        got, head = live_server.http.get(path), live_server.http.head(path)
        assert head.status_code == got.status_code, path
        assert head.content == b""
        for name in set(got.headers) - {"date", "x-request-id"}:
            assert head.headers[name] == got.headers[name], (path, name)
    counted = live_server.http.get("/metrics").text
    assert re.search(r'skinoct_requests_total\{[^}]*method="HEAD"[^}]*path="/models/\{name\}"', counted), counted


def test_request_id_is_kept_or_made(live_server):
    assert live_server.http.get("/healthz", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = live_server.http.get("/healthz", headers={"X-Request-Id": "no spaces"}).headers["x-request-id"]
    assert made != "no spaces"
    assert len(made) == 32


def test_answers_of_many_clients_are_their_own(live_server, make_tiff):
    """Sixteen different tomograms at once give the same bytes as one after the other."""
    bodies = [make_tiff(3, 40, 50 + seed, seed=seed) for seed in range(16)]

    def post(body: bytes) -> bytes:
        with httpx.Client(base_url=live_server.url, timeout=60) as http:
            answer = http.post("/segment?decode=pixel", content=body)
        assert answer.status_code == 200, answer.text
        return answer.content

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        together = list(pool.map(post, bodies))
    assert together == [post(body) for body in bodies]
    assert len(set(together)) == 16
