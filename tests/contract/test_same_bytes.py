"""One tomogram, one answer: HTTP, jobs and the predictor called directly give the same bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest

from skinoct.measure import measure_segmentation
from skinoct.rois import rasterize, read_roi_set, trace, write_roi_set
from skinoct.tomogram import read_tomogram, write_labels


@pytest.fixture(scope="module")
def predictor(tiny_models):
    from skinoct.checkpoint import load_checkpoint
    from skinoct.predictor import Predictor

    return Predictor(load_checkpoint(tiny_models / "tiny"), threads=1)


@pytest.fixture(scope="module", params=["ordered", "pixel"])
def case(request, predictor, live_server, make_tiff):
    """A tomogram, its segmentation by the predictor, and a function that asks the server."""
    body = make_tiff(7, 60, 90, seed=3)
    segmentation = predictor.segment(read_tomogram(body), decode=request.param)

    def ask(accept: str) -> bytes:
        answer = live_server.http.post(f"/segment?decode={request.param}", content=body, headers={"Accept": accept})
        assert answer.status_code == 200, answer.text
        return answer.content

    return segmentation, ask


def test_label_tiff(case):
    segmentation, ask = case
    file = io.BytesIO()
    size = segmentation.pixel_size_um
    write_labels(file, segmentation.blocks(), segmentation.shape, pixel_size_um=size)
    assert ask("image/tiff") == file.getvalue()


def test_npy(case):
    segmentation, ask = case
    file = io.BytesIO()
    np.save(file, segmentation.labels())
    assert ask("application/x-npy") == file.getvalue()


def test_roi_set(case):
    segmentation, ask = case
    file = io.BytesIO()
    write_roi_set(file, trace(segmentation.labels()))
    answer = ask("application/zip")
    assert answer == file.getvalue()
    assert np.array_equal(rasterize(read_roi_set(answer), segmentation.shape), segmentation.labels())


def test_measurements(case):
    segmentation, ask = case
    measures = measure_segmentation(segmentation)
    answer = type(measures).model_validate_json(ask("application/json"))
    assert answer == measures
    assert ask("text/csv").decode() == measures.to_csv()
