"""What shapes the network; apart from it, so that reading a checkpoint does not load PyTorch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError


class UNetConfig(BaseModel):
    """Everything that shapes the network; stored in a checkpoint's card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_slices: int = Field(default=3, ge=1, le=15)
    """Neighboring slices given as channels (odd); the middle one is segmented."""
    stem: tuple[int, int] = (2, 4)
    """Rows and columns folded into channels before the first convolution."""
    widths: tuple[int, ...] = (24, 40, 64, 96, 128)
    """Channels of each level, finest first; each further level halves rows and columns."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout of whole channels in the coarsest level during training."""
    filters: int | None = Field(default=None, ge=1)
    """Filters of an extra last layer before the class scores (the paper has six); None for no such layer."""

    @field_validator("in_slices")
    @classmethod
    def _has_a_middle(cls, value: int) -> int:
        if value % 2 == 0:
            raise PydanticCustomError("odd", "Give an odd number of slices, so that one lies in the middle")
        return value

    @property
    def multiple(self) -> tuple[int, int]:
        """Rows and columns are padded to multiples of these."""
        halvings = 2 ** (len(self.widths) - 1)
        return self.stem[0] * halvings, self.stem[1] * halvings
