"""Signals that end a command: in order where that is possible, and otherwise all the same, with nothing left behind.

The main thread may be in native code for minutes, or wait for other threads, and hears of a signal only afterwards. So a thread
of its own is told by the C handler (`signal.set_wakeup_fd`): where the command has not ended a few seconds later, or the user
asks twice, it removes what must not stay and ends the process.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from compiler.store.leftovers import remove_leftovers

GRACE_S = 5.0
"""What the main thread has to end in order."""

_STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_SAYS = {signal.SIGINT: "interrupted; start again to resume"}
_TICK_S = 0.1
_GONE_S = 1.0


class Stopped(BaseException):
    """The process was asked to end; no handler of errors takes it for one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(number: int) -> int:
    """What a shell makes of a process that a signal ended: 130, 143, 129."""
    return 128 + number


def message(number: int) -> str:
    """The one line that is said."""
    return _SAYS.get(signal.Signals(number), f"ended by {signal.Signals(number).name}; start again to resume")


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Raise `Stopped` in the main thread when the process is asked to end, and see that it does end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _STOPS}
    taken = [number for number, handler in before.items() if handler in {signal.SIG_DFL, signal.default_int_handler}]
    if not taken:  # ignored, as nohup and shells do for what runs behind, or somebody else's
        yield
        return
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    wakeup = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    watch = _Watch(ear, taken)
    watch.start()
    stop = _Once()
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
        signal.set_wakeup_fd(wakeup)
        watch.done.set()
        mouth.close()


class _Once:
    """Raises at the first signal: what is cleaned up after it is not disturbed by more."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, _: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            raise Stopped(number)


class _Watch(threading.Thread):
    """Waits for a signal, then for the end of the command; where that does not come, it ends the process."""

    def __init__(self, ear: socket.socket, taken: list[int]) -> None:
        super().__init__(daemon=True, name="signals")
        self.ear, self.taken, self.done = ear, taken, threading.Event()

    def run(self) -> None:
        with self.ear:
            number = self._next()
            while number is not None and number not in self.taken:
                number = self._next()
            if number is None:
                return
            self.ear.settimeout(_TICK_S)
            for _ in range(round(GRACE_S / _TICK_S)):
                if self.done.is_set():
                    return
                with contextlib.suppress(TimeoutError):
                    if (again := self._next()) is None:
                        return
                    if again in self.taken:
                        break
            if not self.done.is_set():
                end_now(number)

    def _next(self) -> int | None:
        """The next signal; None where the command is done."""
        heard = self.ear.recv(1)
        return heard[0] if heard else None


def end_now(number: int) -> None:
    """End the process and those that it started, without unwinding: what must not stay is removed."""
    _end_children()
    remove_leftovers()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{message(number)}\n")
        sys.stderr.flush()
    os._exit(exit_code(number))


def _end_children() -> None:
    """End the processes that this one started, where the system tells which they are."""
    try:
        import psutil  # type: ignore[import-untyped]  # it comes with accelerate
    except ImportError:
        return
    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(children, timeout=_GONE_S)  # a killed process still writes until the system has ended it
