"""Several float32 numbers in one register, for compiled searches over several slices at once.

numba compiles a loop over a handful of numbers to one instruction for each of them. With the operations here each takes
one instruction for all (where the processor has registers of that width; LLVM splits them where it has not).
Arrays are flat and addressed by the number of their first element.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model


class Vector(types.Type):
    """As many float32 numbers as a tuple of lanes has entries."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name=f"Vector({count})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector lives in a register."""

    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.FloatType(), kind.count))  # type: ignore[no-untyped-call]


def _instruction(function: Any) -> Any:
    """Make a generator of code callable from compiled functions; its first argument is numba's and not given."""
    return intrinsic(function)


def _address(context: Any, builder: Any, array_type: Any, array: Any, at: Any, count: int) -> Any:
    """Return the address of ``count`` numbers of a flat array, the first of them number ``at``."""
    data = context.make_array(array_type)(context, builder, array).data
    first = builder.gep(data, [at])
    return builder.bitcast(first, ir.VectorType(ir.FloatType(), count).as_pointer())


@_instruction
def load(typing: Any, array: Any, at: Any, lanes: Any) -> Any:
    """Return the numbers of ``array`` from ``at`` on, one for each entry of ``lanes``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, array, arguments[0], arguments[1], lanes.count)
        return builder.load(address, align=4)

    return Vector(lanes.count)(array, types.intp, lanes), generate


@_instruction
def store(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """Write ``value`` to ``array`` from ``at`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, array, arguments[0], arguments[1], value.count)
        builder.store(arguments[2], address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@_instruction
def splat(typing: Any, number: Any, lanes: Any) -> Any:
    """Return the float32 ``number`` for each entry of ``lanes``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(ir.FloatType(), lanes.count)
        result = ir.Constant(kind, ir.Undefined)
        for lane in range(lanes.count):
            result = builder.insert_element(result, arguments[0], ir.Constant(ir.IntType(32), lane))
        return result

    return Vector(lanes.count)(types.float32, lanes), generate


def _arithmetic(instruction: str) -> Any:
    @_instruction
    def combine(typing: Any, one: Any, other: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return one(one, one), generate

    return combine


add, subtract = _arithmetic("fadd"), _arithmetic("fsub")


@_instruction
def choose(typing: Any, one: Any, other: Any, where_greater: Any, elsewhere: Any) -> Any:
    """Return ``where_greater`` in the lanes in which ``one`` is greater than ``other``, ``elsewhere`` in the rest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        greater = builder.fcmp_ordered(">", arguments[0], arguments[1])
        return builder.select(greater, arguments[2], arguments[3])

    return one(one, one, one, one), generate
