"""How lines are drawn; apart from the drawing, so that reading a checkpoint does not load what compiles it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class DecodeConfig(BaseModel):
    """How lines are drawn through probabilities; stored in a checkpoint's card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    band_thickness_px: float = Field(default=5.6, gt=0)
    """Thickness of the annotators' DEJ band in rows of the network."""
    floor: float = Field(default=0.02, gt=0, lt=0.2)
    """No class is less probable than this, so that one certain pixel cannot overrule a column."""
    dark_as_epidermis: float = Field(default=0.5, ge=0, le=1)
    """Share of the glycerol's probability that epidermis may claim as well: what lies in shadow looks like medium."""
    dark_as_dermis: float = Field(default=0.9, ge=0, le=1)
    """The same for dermis. Far below the DEJ a tall image is as dark and plain as the medium; a network that sees
    nothing else there says glycerol, and only the order of the layers knows better."""
    dej_step_price: float = Field(default=1.0, ge=0)
    """Price in log probability of one row of difference between neighboring columns of the DEJ."""
    dej_reach: int = Field(default=3, ge=0)
    """Rows that the DEJ may step between neighboring columns, so that its band never breaks; 0 for any number."""
    surface_step_price: float = Field(default=0.3, ge=0)
    """The same for the skin surface, which has furrows."""
    glass_step_price: float = Field(default=8.0, ge=0)
    """The same for the glass, which is flat."""
    smooth_columns: float = Field(default=2.0, ge=0)
    """Standard deviation in columns of the Gaussian that smooths the found DEJ."""
    smooth_slices: float = Field(default=3.0, ge=0)
    """Standard deviation in slices of the smoothing of epidermal thickness, which unlike the DEJ itself does not
    jump when the skin moves between two frames; 0 for none."""
    smooth_slices_um: float = Field(default=6.0, gt=0)
    """The same in micrometers, where the distance of slices is known: the smaller one counts. The DEJ's papillae are
    about 110 um apart."""
    slice_jump_px: float = Field(default=30.0, gt=0)
    """Neighboring slices whose thickness differs by more rows than this are not averaged: one of them is a blunder."""
    epidermis_um: float = Field(default=80.0, gt=0)
    """Thickness from the skin surface to the DEJ that is the most likely where the image does not tell."""
    epidermis_spread: float = Field(default=0.4, gt=0)
    """Standard deviation of the logarithm of that thickness, over sites and ages."""
    epidermis_price: float = Field(default=8.0, ge=0)
    """Price in log probability: half of it, times the square, of a thickness so many standard deviations away; 0 for no
    opinion. The rows of a column are far from independent, so that a network which errs is sure of it: single units
    change little."""
    own_price: float = Field(default=0.0, ge=0)
    """The same for deviating from the thickness that a few slices of the tomogram itself show, whatever the size of its
    pixels; 0 for no opinion. Within one tomogram thickness varies little: a line that leaves it is a blunder."""
    enlarge_unknown: bool = False
    """Whether an image whose pixel size nobody knows is shown to the network enlarged where that makes it surer; for
    networks that were trained on skin of many scales."""
    row_um: float | None = Field(default=None, gt=0)
    """Micrometers of a row of the network; None where nobody knows, and thickness has no price."""
    temperature: float = Field(default=8.0, gt=0)
    """Divides column scores before they are read as probabilities for the confidence (rows are correlated)."""
