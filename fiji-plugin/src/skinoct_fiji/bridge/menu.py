"""Entries under Plugins > Skin, and the listener through which clicks, macros and shortcuts reach Python."""

# mypy: disable-error-code=untyped-decorator
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jpype import JClass, JImplements, JOverride

from skinoct_fiji.bridge.gateway import Gateway

MENU = "Skin"


def add_entries(ij: Gateway, labels: Sequence[str]) -> None:
    """Put ``labels`` under *Plugins > Skin*; entries that installed scripts put there already stay single."""
    commands = _commands(ij)
    menu = _skin_menu(ij)
    window = ij.IJ.getInstance()
    present = {str(menu.getItem(i).getLabel()) for i in range(int(menu.getItemCount()))} if menu else set()
    for label in labels:
        if menu is not None and label not in present:
            item = JClass("java.awt.MenuItem")(label)
            item.addActionListener(window)  # ImageJ itself, so that its Executer runs it off the event thread
            menu.add(item)
        commands.put(label, "skinoct")


def _commands(ij: Gateway) -> Any:
    """Return ImageJ's table of commands; without a window an ImageJ 1 has none until somebody makes it one."""
    found = ij.Menus.getCommands()
    if found is None:
        field = ij.Menus.class_.getDeclaredField("pluginsTable")
        field.setAccessible(True)
        field.set(None, JClass("java.util.Hashtable")())
        found = ij.Menus.getCommands()
    return found


def _skin_menu(ij: Gateway) -> Any:
    bar = ij.Menus.getMenuBar()
    if bar is None:
        return None  # headless
    plugins = next(m for m in (bar.getMenu(i) for i in range(bar.getMenuCount())) if m.getLabel() == "Plugins")
    for index in range(int(plugins.getItemCount())):
        if plugins.getItem(index).getLabel() == MENU:
            return plugins.getItem(index)
    menu = JClass("java.awt.Menu")(MENU)
    plugins.add(menu)
    return menu


def listen(ij: Gateway, labels: Sequence[str], execute: Callable[[str], None]) -> None:
    """Call ``execute`` with the label of each of our entries that ImageJ is about to run."""
    ours = frozenset(labels)

    @JImplements("ij.CommandListener")
    class Listener:
        @JOverride
        def commandExecuting(self, command: Any) -> Any:  # noqa: N802 - Java's name
            if str(command) not in ours:
                return command
            execute(str(command))
            return None

    ij.Executer.addCommandListener(Listener())
