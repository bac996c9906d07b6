"""Signals that end a process: they wait until a checkpoint is saved."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Sent by schedulers (SLURM and its tools: SIGUSR1 or SIGUSR2 some time before the end, then SIGTERM), by
# Ctrl-C and a notebook's interrupt, and by a closed terminal.
NAMES = ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGINT", "SIGHUP")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


class _Interrupted(BaseException):
    """Raised when a signal arrives; it never leaves this module."""


class Interruption:
    """While open, a signal of `SIGNALS` waits for work that is `held`, calls `save`, and then takes effect.

    An interrupt then raises KeyboardInterrupt; the others end the process. Only the main thread receives
    signals; in another thread this does nothing.

    Where several processes train a run, `agree` returns the largest of their numbers. A signal to one of them
    then waits for the end of work that all of them hold, and takes effect in all.
    """

    def __init__(self, save: Callable[[], None], agree: Callable[[int], int] | None = None):
        self._save, self._agree = save, agree
        self._number = 0  # of the signal that takes effect
        self._held = True  # until it is open
        self._received: int | None = None
        self._before: dict[int, Callable] = {}
        self._exit: Callable[[int], None] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold signals back until the work inside is done."""
        self._held = True
        try:
            yield
        finally:
            # a second signal does not stop the save
            self._held = self._agree is not None or self._received is not None
        if self._takes_effect():
            raise _Interrupted

    def _takes_effect(self) -> bool:
        number = self._received or 0
        self._number = self._agree(number) if self._agree else number
        return self._number > 0

    def _receive(self, number: int, frame) -> None:
        self._received = number
        if not self._held:
            self._held = True
            raise _Interrupted

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            # ignored signals (nohup) stay ignored; handlers that are not Python's stay
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            self._before = {n: h for n, h in handlers.items() if h not in (signal.SIG_IGN, None)}
            for number in self._before:
                signal.signal(number, self._receive)
            if "ipykernel" in sys.modules and signal.SIGTERM in self._before:
                self._process, self._exit, os._exit = os.getpid(), os._exit, self._exit_when_saved
        self._held = self._agree is not None
        return self

    def _exit_when_saved(self, status: int) -> None:
        """Replace os._exit in a notebook's kernel.

        A thread of the kernel calls os._exit within a second after the process that started the kernel died.
        SIGTERM ends papermill at once: without this, the kernel would end before the work is saved.
        """
        if os.getpid() == self._process:  # not a forked process
            os.kill(self._process, signal.SIGTERM)
            threading.Event().wait()
        self._exit(status)

    def __exit__(self, kind, error, trace) -> None:
        self._held = True
        if self._agree is None or kind not in (_Interrupted, None):
            self._number = self._received or 0
        elif kind is None:
            self._takes_effect()
        if self._number and kind in (_Interrupted, None):
            try:
                self._save()
            except Exception as failure:
                kind, error = type(failure), failure
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._exit is not None:
            os._exit = self._exit
        number = self._number or self._received
        if not number:
            return
        if kind not in (_Interrupted, None):  # the process may end before anybody else reports it
            traceback.print_exception(error)
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None  # without _Interrupted in the traceback
        raise SystemExit(128 + number)  # where the signal did not end the process
