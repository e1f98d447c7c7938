"""The state of a folder tree, so that it is seen whether anything in it was touched."""

import stat
from pathlib import Path

State = dict[str, tuple[int, ...]]


def snapshot(folder: Path, leave_out: tuple[str, ...] = ()) -> State:
    """Mode, size, time of change and inode of everything below a folder, nothing opened and no link followed."""
    found: State = {}
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        for path in here.iterdir():
            name = str(path.relative_to(folder))
            if name in leave_out:
                continue
            state = path.lstat()
            is_folder = stat.S_ISDIR(state.st_mode)
            found[name] = (
                (state.st_mode,) if is_folder else (state.st_mode, state.st_size, state.st_mtime_ns, state.st_ino)
            )
            if is_folder:
                waiting.append(path)
    return found


def touched(before: State, after: State) -> list[str]:
    """What was made, deleted or changed."""
    names = sorted({*before, *after})
    return [f"{_what(before, after, name)} {name}" for name in names if before.get(name) != after.get(name)]


def _what(before: State, after: State, name: str) -> str:
    return "made" if name not in before else "deleted" if name not in after else "changed"
