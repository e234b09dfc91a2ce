"""Dialogs of ImageJ from a list of fields."""

# mypy: disable-error-code=untyped-decorator
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


Field = Text | Number | Slider | Choice | Check | Folder | Note | Button


def ask(title: str, fields: Sequence[Field], help_url: str | None = None) -> Values | None:
    """Show a modal dialog and return its values by key, or None when it was canceled."""
    dialog = JClass("ij.gui.GenericDialog")(title)
    for field in fields:
        _add(dialog, field, fields)
    if help_url:
        dialog.addHelp(help_url)
    dialog.showDialog()
    return None if dialog.wasCanceled() else _values(dialog, fields)


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
            dialog.addMessage(" \n ")  # two lines make a label whose text can be set
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


def yes_no(title: str, question: str, yes: str, no: str) -> bool | None:
    """Ask a question with two answers; None when it was canceled."""
    dialog = JClass("ij.gui.GenericDialog")(title)
    dialog.addMessage(wrapped(question))
    dialog.enableYesNoCancel(yes, no)
    dialog.showDialog()
    return None if dialog.wasCanceled() else bool(dialog.wasOKed())


def as_mapping(values: Mapping[str, Any]) -> dict[str, str]:
    """Return dialog values as texts, for preferences."""
    return {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in values.items()}
