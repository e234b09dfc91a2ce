"""A launched ImageJ that a test can look into: Python lines in on stdin, JSON out on stdout.

Started by ``conftest.Session`` in a process of its own, since a process can hold one Java.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def serve(names: dict[str, object]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        source = json.loads(line)
        try:
            with contextlib.suppress(SyntaxError):
                source = compile(source, "<test>", "eval")
            if isinstance(source, str):
                exec(source, names)
                value: object = None
            else:
                value = eval(source, names)
            answer = {"value": value}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer, default=str), file=answers, flush=True)


def call(target: Any, name: str, *arguments: Any) -> Any:
    """Call a method of Java that is not public."""
    from jpype import JObject

    kind = target.getClass()
    while kind is not None:
        for method in kind.getDeclaredMethods():
            kinds = list(method.getParameterTypes())
            fits = len(kinds) == len(arguments) and all(k.isInstance(a) for k, a in zip(kinds, arguments, strict=True))
            if str(method.getName()) == name and fits:
                method.setAccessible(True)
                return method.invoke(target, [JObject(a) for a in arguments])
        kind = kind.getSuperclass()
    raise AttributeError(name)


def menu_point(*path: str) -> tuple[int, int] | None:
    """Return where on the screen a menu item such as ``("Plugins", "Skin")`` was drawn."""
    from jpype import JClass

    bar = JClass("ij.Menus").getMenuBar()
    items = [bar.getMenu(i) for i in range(bar.getMenuCount())]
    for label in path:
        item = next(i for i in items if str(i.getLabel()) == label)
        items = [item.getItem(i) for i in range(item.getItemCount())] if hasattr(item, "getItemCount") else []
    peer = JClass("sun.awt.AWTAccessor").getMenuComponentAccessor().getPeer(item)
    box, window = call(peer, "getBounds"), call(peer, "getContainer")
    if box is None or not call(window, "isShowing"):
        return None
    corner = call(window, "toGlobal", JClass("java.awt.Point")(int(box.x), int(box.y)))
    return int(corner.x + box.width // 2), int(corner.y + box.height // 2)


def components(window: Any) -> list[Any]:
    """Return all components of a window."""
    inner = (
        [c for child in window.getComponents() for c in components(child)] if hasattr(window, "getComponents") else []
    )
    return [window, *inner]


def window(title: str) -> Any:
    """Return the visible window of a title."""
    from jpype import JClass

    shown = [w for w in JClass("java.awt.Window").getWindows() if w.isShowing() and hasattr(w, "getTitle")]
    return next((w for w in reversed(shown) if str(w.getTitle()) == title), None)


def point(title: str, label: str) -> tuple[int, int]:
    """Return the middle of a button, checkbox or text field, found by its text, inside its window."""
    for item in components(window(title)):
        text = [str(getattr(item, get)()) for get in ("getLabel", "getText", "getSelectedItem") if hasattr(item, get)]
        if any(label in t for t in text) and item.isShowing():
            return inside(item)
    raise LookupError(f"{label} in {title}")


def field(title: str, label: str) -> Any:
    """Return the text field or list that stands behind a label in a dialog."""
    seen = False
    for item in components(window(title)):
        if seen and (hasattr(item, "getColumns") or hasattr(item, "getSelectedItem")):
            return item
        seen = seen or (str(item.getClass().getSimpleName()) == "Label" and str(item.getText()).startswith(label))
    raise LookupError(f"{label} in {title}")


def inside(item: Any) -> tuple[int, int]:
    """Return the middle of a component inside its window; where that is, only the screen itself knows."""
    x, y = int(item.getWidth()) // 2, int(item.getHeight()) // 2
    while not hasattr(item, "getOwnedWindows"):
        x, y = x + int(item.getX()), y + int(item.getY())
        item = item.getParent()
    return x, y


def texts(title: str) -> list[str]:
    """Return all texts in a window."""
    found = []
    for item in components(window(title)):
        if str(item.getClass().getSimpleName()) == "MultiLineLabel":
            field = item.getClass().getDeclaredField("lines")
            field.setAccessible(True)
            found.append(" ".join(str(line) for line in field.get(item)))
        elif hasattr(item, "getText"):
            found.append(str(item.getText()))
    return found


def later(work: Any) -> None:
    """Have Java's event thread do something when it has time."""
    from jpype import JClass, JProxy

    JClass("java.awt.EventQueue").invokeLater(JProxy("java.lang.Runnable", dict={"run": work}))


def status() -> str:
    """Return the text of the status bar."""
    from jpype import JClass

    field = JClass("ij.ImageJ").class_.getDeclaredField("statusLine")
    field.setAccessible(True)
    return str(field.get(JClass("ij.IJ").getInstance()).getText())


def main() -> None:
    from skinoct_fiji.app import open_imagej
    from skinoct_fiji.bridge.gateway import Gateway
    from skinoct_fiji.bridge.jvm import find_installation, start

    installation = find_installation(Path(sys.argv[1]))
    if sys.argv[2]:
        ij = open_imagej(installation, server=sys.argv[2])
    else:  # a stock Fiji: nothing of ours but what is installed in it
        start(installation)
        ij = Gateway()
    import jpype

    helpers = {
        "menu_point": menu_point,
        "point": point,
        "field": field,
        "inside": inside,
        "later": later,
        "texts": texts,
        "window": window,
        "status": status,
    }
    serve({"ij": ij, "JClass": jpype.JClass, "Path": Path, **helpers})
    os._exit(0)


main()
