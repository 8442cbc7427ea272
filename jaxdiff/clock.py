"""How long a run took, phase by phase."""

import time
from typing import Any

import jax


class Clock:
    """Seconds by phase; compilation is counted by JAX's own events and taken out of the phase in which it happened."""

    def __init__(self):
        self.start = self.last = time.monotonic()
        self.compiling = self.counted = 0.0
        self.laps: dict[str, float] = {}
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration: float, **_: Any) -> None:
        if event == '/jax/core/compile/backend_compile_duration':
            self.compiling += duration

    def lap(self, phase: str) -> None:
        """End a phase."""
        now = time.monotonic()
        self.laps[phase] = self.laps.get(phase, 0.0) + now - self.last - (self.compiling - self.counted)
        self.last, self.counted = now, self.compiling

    def seconds(self) -> dict[str, float]:
        """What result.json calls wall_s."""
        return {'compile': self.compiling, **self.laps, 'total': time.monotonic() - self.start}
