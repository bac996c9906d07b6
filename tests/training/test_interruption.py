"""Signals: what is held is finished, then comes the saving, then the signal's own course."""

import signal
import subprocess
import sys
import threading

import pytest

from tcl_lib.training.interruption import SIGNALS, Interruption

DEFAULT = {signal.SIGINT: signal.default_int_handler}


@pytest.fixture(autouse=True)
def not_ignored():
    """As in a terminal; a process started in the background may ignore some of them."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, DEFAULT.get(number, signal.SIG_DFL))
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("held", [True, False])
def test_an_interrupt_waits_for_what_is_held_and_saves(held):
    done = []
    before = [signal.getsignal(number) for number in SIGNALS]

    def work():
        with Interruption(lambda: done.append("saved")) as interruption:
            if held:
                with interruption.held():
                    signal.raise_signal(signal.SIGINT)
                    signal.raise_signal(signal.SIGINT)
                    done.append("work")
            else:
                signal.raise_signal(signal.SIGINT)
            done.append("more work")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["work", "saved"][not held :]
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_without_a_signal_nothing_happens():
    done = []
    with Interruption(lambda: done.append("saved")) as interruption, interruption.held():
        done.append("work")
    assert done == ["work"]


def test_an_error_of_the_work_is_heard_of(capsys):
    done = []

    def work():
        with Interruption(lambda: done.append("saved")) as interruption, interruption.held():
            signal.raise_signal(signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(KeyboardInterrupt):  # what was asked for, whatever became of the work
        work()
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert done == []


def test_an_error_of_the_saving_is_heard_of(capsys):
    def save():
        raise OSError("full")

    with pytest.raises(KeyboardInterrupt), Interruption(save):
        signal.raise_signal(signal.SIGINT)
    assert "OSError: full" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


COURSE = """
import signal, sys
from tcl_lib.training.interruption import Interruption
number = int(sys.argv[1])
signal.signal(number, signal.SIG_DFL)
if sys.argv[2] == "ignored":
    signal.signal(number, signal.SIG_IGN)
if sys.argv[2] == "handled":
    signal.signal(number, lambda *_: print("handled", flush=True))
with Interruption(lambda: print("saved", flush=True)):
    signal.raise_signal(number)
print("went on")
"""


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP]
)
@pytest.mark.parametrize("course", ["default", "ignored", "handled"])
def test_a_signal_takes_its_course(number, course):
    command = [sys.executable, "-c", COURSE, str(int(number)), course]
    done = subprocess.run(command, capture_output=True, text=True)
    if course == "ignored":
        assert (done.returncode, done.stdout) == (0, "went on\n")
    elif course == "handled":
        assert (done.returncode, done.stdout) == (128 + number, "saved\nhandled\n")
    else:
        assert (done.returncode, done.stdout) == (-number, "saved\n")


def test_another_thread_than_the_main_one_has_no_signals():
    done = []

    def work():
        with Interruption(lambda: done.append("saved")) as interruption, interruption.held():
            done.append("work")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["work"]


def test_a_signal_that_a_callback_swallowed_is_not_forgotten():
    done = []

    def work():
        with Interruption(lambda: done.append("saved")):
            try:
                signal.raise_signal(signal.SIGINT)
            except BaseException:  # as Python does in a destructor
                done.append("swallowed")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["swallowed", "saved"]


def test_signal_to_one_of_several_processes_waits_for_what_all_of_them_hold():
    done = []

    def work():
        with Interruption(lambda: done.append("saved"), agree=lambda number: number) as interruption:
            signal.raise_signal(signal.SIGINT)
            done.append("alone")
            with interruption.held():
                done.append("held")
            done.append("more work")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["alone", "held", "saved"]


@pytest.mark.parametrize("held", [True, False])
def test_signal_to_another_process_takes_effect_here(held):
    done = []

    def work():
        with Interruption(lambda: done.append("saved"), agree=lambda number: signal.SIGINT) as interruption:
            if held:
                with interruption.held():
                    done.append("work")
                done.append("more work")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["work", "saved"][not held :]
