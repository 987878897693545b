"""How many programs XLA builds during a call."""

import jax


def count_compilations(call):
    """Counts small eager programs too."""
    events = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        call()
    finally:
        jax.monitoring.clear_event_listeners()
    return len(events)
