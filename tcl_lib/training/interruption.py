"""Signals that end a process, made to wait until what it has in hand is saved."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What schedulers send, what Ctrl-C and a notebook's interrupt send, and what a closed terminal sends.
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]


class _Interrupted(BaseException):
    """A signal came; never leaves this module."""


class Interruption:
    """While open, a signal of `SIGNALS` lets the work that is `held` end, saves, and takes its course then.

    Its course is what it would have been without: for SIGTERM the end of the process, for an interrupt a
    KeyboardInterrupt. Outside the main thread, which alone receives signals, this does nothing.
    """

    def __init__(self, save: Callable[[], None]):
        self._save = save
        self._held = True  # until this is open
        self._received: int | None = None
        self._before: dict[int, Callable] = {}
        self._exit: Callable[[int], None] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Work that must not be left half done."""
        self._held = True
        try:
            yield
        finally:
            self._held = self._received is not None  # a second signal does not stop the saving
        if self._received is not None:
            raise _Interrupted

    def _receive(self, number: int, frame) -> None:
        self._received = number
        if not self._held:
            self._held = True
            raise _Interrupted

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            # one that is ignored (nohup) stays so, one that is not Python's is left alone
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            self._before = {n: h for n, h in handlers.items() if h not in (signal.SIG_IGN, None)}
            for number in self._before:
                signal.signal(number, self._receive)
            if "ipykernel" in sys.modules and signal.SIGTERM in self._before:
                self._process, self._exit, os._exit = os.getpid(), os._exit, self._exit_when_saved
        self._held = False
        return self

    def _exit_when_saved(self, status: int) -> None:
        """Stands for os._exit in a notebook's kernel.

        A thread there calls it within a second of the death of the process that started the kernel, papermill
        for one, which SIGTERM ends at once: without this the kernel would be gone before the work is done.
        """
        if os.getpid() == self._process:  # and not one that was forked off it
            os.kill(self._process, signal.SIGTERM)
            threading.Event().wait()
        self._exit(status)

    def __exit__(self, kind, error, trace) -> None:
        self._held = True
        if self._received is not None and kind in (_Interrupted, None):
            try:
                self._save()
            except Exception as failure:
                kind, error = type(failure), failure
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._exit is not None:
            os._exit = self._exit
        if self._received is None:
            return
        if kind not in (_Interrupted, None):  # it may be the last that is heard of this process
            traceback.print_exception(error)
        try:
            signal.raise_signal(self._received)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None  # _Interrupted is nobody's business
        raise SystemExit(128 + self._received)  # where its course is to go on
