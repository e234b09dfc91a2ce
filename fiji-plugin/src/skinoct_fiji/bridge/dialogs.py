"""Dialogs of ImageJ from a list of fields."""

# mypy: disable-error-code=untyped-decorator
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jpype import JArray, JClass, JImplements, JOverride, JString

from skinoct_fiji.bridge.gateway import in_background, wrapped

Values = dict[str, Any]


@dataclass(frozen=True)
class Text:
    """A line of text."""

    key: str
    label: str
    default: str
    columns: int = 24
    secret: bool = False


@dataclass(frozen=True)
class Number:
    """A number with its unit."""

    key: str
    label: str
    default: float
    digits: int = 2
    unit: str = ""


@dataclass(frozen=True)
class Slider:
    """A whole number between two bounds."""

    key: str
    label: str
    default: int
    low: int = 0
    high: int = 100


@dataclass(frozen=True)
class Choice:
    """One of several texts."""

    key: str
    label: str
    default: str
    items: Sequence[str]


@dataclass(frozen=True)
class Check:
    """Yes or no."""

    key: str
    label: str
    default: bool


@dataclass(frozen=True)
class Folder:
    """A folder, with a *Browse* button."""

    key: str
    label: str
    default: str


@dataclass(frozen=True)
class Note:
    """A text without input."""

    text: str


@dataclass(frozen=True)
class Button:
    """A button that calls back off the event thread with the values as they stand; its answer goes below."""

    label: str
    pressed: Callable[[Values], str]
    answer: str = ""
    """What stands below it at first."""


Field = Text | Number | Slider | Choice | Check | Folder | Note | Button


def ask(title: str, fields: Sequence[Field], changed: Callable[[Values], None] | None = None) -> Values | None:
    """Show a dialog and return its values by key, or None when it was canceled.

    With ``changed``, which hears of every change at once, ImageJ can be used beside the dialog.
    """
    kind = "ij.gui.GenericDialog" if changed is None else "ij.gui.NonBlockingGenericDialog"
    dialog = JClass(kind)(title)
    for field in fields:
        _add(dialog, field, fields)
    if changed is not None:
        dialog.addDialogListener(_hears(dialog, fields, changed))
    dialog.showDialog()
    return None if dialog.wasCanceled() else _values(dialog, fields)


def _hears(dialog: Any, fields: Sequence[Field], changed: Callable[[Values], None]) -> Any:
    @JImplements("ij.gui.DialogListener")
    class Hears:
        @JOverride
        def dialogItemChanged(self, _dialog: Any, _event: Any) -> bool:  # noqa: N802 - Java's name
            changed(_values(dialog, fields))
            return True

    return Hears()


def _add(dialog: Any, field: Field, fields: Sequence[Field]) -> None:
    match field:
        case Text():
            dialog.addStringField(field.label, field.default, field.columns)
            if field.secret:
                dialog.getStringFields().lastElement().setEchoChar("*")
        case Number():
            dialog.addNumericField(field.label, field.default, field.digits, 8, field.unit)
        case Slider():
            dialog.addSlider(field.label, float(field.low), float(field.high), float(field.default))
        case Choice():
            dialog.addChoice(field.label, JArray(JString)(list(field.items)), field.default)
        case Check():
            dialog.addCheckbox(field.label, field.default)
        case Folder():
            dialog.addDirectoryField(field.label, field.default, 28)
        case Note():
            dialog.addMessage(wrapped(field.text))
        case Button():
            place: dict[str, Any] = {}
            dialog.addButton(field.label, _listener(dialog, field, fields, place))
            # Two lines make a label whose text can be set later.
            dialog.addMessage(wrapped(field.answer) + "\n " if field.answer else " \n ")
            place["answer"] = dialog.getMessage()


def _listener(dialog: Any, button: Button, fields: Sequence[Field], place: dict[str, Any]) -> Any:
    def answer(values: Values) -> None:
        place["answer"].setText(wrapped(button.pressed(values)))
        dialog.pack()

    @JImplements("java.awt.event.ActionListener")
    class Pressed:
        @JOverride
        def actionPerformed(self, _event: Any) -> None:  # noqa: N802 - Java's name
            values = _values(dialog, fields)
            place["answer"].setText("...")
            in_background("skinoct button", lambda: answer(values))

    return Pressed()


def _values(dialog: Any, fields: Sequence[Field]) -> Values:
    """Read the components themselves: ``getNext...`` would count on and could not be asked twice."""
    texts = iter(dialog.getStringFields() or ())
    numbers = iter(dialog.getNumericFields() or ())
    choices = iter(dialog.getChoices() or ())
    checks = iter(dialog.getCheckboxes() or ())
    values: Values = {}
    for field in fields:
        match field:
            case Text() | Folder():
                values[field.key] = str(next(texts).getText())
            case Number() | Slider():
                values[field.key] = _number(str(next(numbers).getText()))
            case Choice():
                values[field.key] = str(next(choices).getSelectedItem())
            case Check():
                values[field.key] = bool(next(checks).getState())
    return values


def _number(text: str) -> float | str:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return text
