"""How the states of a dispatch look in a terminal."""

from __future__ import annotations

from typing import Final, TextIO

from chunkwise.core.dispatch.board import Board
from chunkwise.core.units import MiB

_STATES: Final = ("done", "running", "pending", "doubtful", "failed", "lost")
_ALWAYS: Final = ("done", "running", "pending")
_BAR: Final = 40
_NAMED: Final = 10
_UP: Final = "\x1b[{}A\x1b[J"  # ECMA-48: cursor up, erase to the end of the screen


def table(board: Board, *, title: str, ascii_only: bool = False) -> list[str]:
    """The board as lines: a bar, a number and a share for each state.

    :param title: first line.
    :param ascii_only: for terminals without block characters.
    """
    counts = board.counts
    full, empty = ("#", ".") if ascii_only else ("█", "░")
    lines = [title]
    for state in _STATES:
        number = getattr(counts, state)
        if not number and state not in _ALWAYS:
            continue
        share = number / counts.total if counts.total else 0.0
        # a state that has any chunk shows, and only all of them fill the bar
        cells = int(share * _BAR)
        cells = max(1, cells) if number else 0
        lines.append(f"  {state:<9}{full * cells}{empty * (_BAR - cells)} {number:>5} {share:>6.1%}")
    rows = f", {counts.rows:,} rows" if counts.rows else ""
    left = board.seconds_left
    eta = f", about {left:,.0f} s left" if left and counts.pending + counts.running else ""
    lines.append(
        f"  {counts.done:,} of {counts.total:,} chunks,"
        f" {counts.bytes_done / MiB:,.1f} of {counts.bytes_total / MiB:,.1f} MiB{rows}{eta}"
    )
    for state in ("failed", "lost"):
        chunks = board.chunks(state)
        if chunks:
            more = f" and {len(chunks) - _NAMED} more" if len(chunks) > _NAMED else ""
            lines.append(f"  {state}: {', '.join(map(str, chunks[:_NAMED]))}{more}")
    return lines


class Screen:
    """Draw lines over the ones before on a terminal; one line a time elsewhere.

    :param out: where to.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._drawn = 0
        self._live = out.isatty()
        encoding = (getattr(out, "encoding", None) or "ascii").lower().replace("-", "")
        self.ascii_only = not encoding.startswith("utf")

    def draw(self, board: Board, title: str, *, last: bool) -> None:
        """Show the board.

        :param last: nothing follows: the whole table, also where this is no terminal.
        """
        if not self._live and not last:
            self._out.write(f"{board.line()}\n")
        else:
            lines = table(board, title=title, ascii_only=self.ascii_only)
            up = _UP.format(self._drawn) if self._live and self._drawn else ""
            self._out.write(up + "".join(f"{line}\n" for line in lines))
            self._drawn = len(lines)
        self._out.flush()
