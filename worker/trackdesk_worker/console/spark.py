"""Points of a spark line. The server draws it, so that pages need no script."""

from collections.abc import Sequence

WIDTH, HEIGHT = 240, 40
_PAD = 2


def lines(values: Sequence[float | None], *, slots: int) -> list[str]:
    """Return SVG ``points`` for each run without gaps; the newest value is at the right edge.

    Args:
        values: newest last; None is a gap.
        slots: number of values that fill the width.
    """
    highest = max((value for value in values if value is not None), default=0.0) or 1.0
    stretches: list[list[str]] = [[]]
    step = (WIDTH - 2 * _PAD) / max(1, slots - 1)
    for place, value in enumerate(values):
        if value is None:
            stretches.append([])
            continue
        x = WIDTH - _PAD - (len(values) - 1 - place) * step
        y = HEIGHT - _PAD - value / highest * (HEIGHT - 2 * _PAD)
        stretches[-1].append(f"{x:.1f},{y:.1f}")
    return [" ".join(points * 2 if len(points) == 1 else points) for points in stretches if points]
