"""How exact a DEJ must be for a recall, and what annotators reach: what bounds the targets of the DEJ's band.

    python tests/e2e/band_bound.py DATA

DATA holds phantoms (``skinoct-train phantom``). Prints the mean recall of a true band that was moved by whole pixels,
and recall, Dice and error in um of the ROI set that a doctor would leave.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from skinoct.labels import Label
from skinoct.segmentation import LabelArray
from skinoct_training.dataset import LabelOptions, case_of, find_cases, open_image, pixel_um_of, read_labels
from skinoct_training.metrics import column_errors

MOVED_PX = (1, 2, 3)


def recall(found: LabelArray, truth: LabelArray) -> float:
    """Return the share of the true DEJ that was found."""
    band = truth == Label.DEJ
    return float(((found == Label.DEJ) & band).sum() / band.sum())


def dice(found: LabelArray, truth: LabelArray) -> float:
    """Return the Dice coefficient of the DEJ."""
    one, other = found == Label.DEJ, truth == Label.DEJ
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def main(data: Path) -> None:
    """Measure all tomograms and print the means."""
    moved: dict[int, list[float]] = {pixels: [] for pixels in MOVED_PX}
    doctors = []
    for case in find_cases(data, "labels"):
        tomogram = open_image(case)
        um = pixel_um_of(tomogram)[0]
        truth = read_labels(case, tomogram.voxels.shape, LabelOptions("labels"), um)
        drawn = read_labels(case_of(case.image.parent, "rois"), tomogram.voxels.shape, LabelOptions("rois"), um)
        doctors.append((recall(drawn, truth), dice(drawn, truth), column_errors(drawn, truth, um).mae_um))
        for pixels in MOVED_PX:
            moved[pixels].append(recall(np.roll(truth, pixels, axis=1), truth))
    for pixels, values in moved.items():
        print(f"the true band moved by {pixels} px: recall {np.mean(values):.2f}")
    print("the doctors' ROI sets: recall {:.2f}, Dice {:.2f}, error {:.2f} um".format(*np.mean(doctors, axis=0)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
