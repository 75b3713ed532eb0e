"""A failing scenario made small: steps go, in halves and then one by one, as long as it still fails."""

import msgspec


def shrink(scenario, fails, *, most=300):
    """The smallest scenario found that `fails` (a function of a scenario) still says True of."""
    steps, size, tries = list(scenario.steps), max(1, len(scenario.steps) // 2), 0
    while size and tries < most:
        start, gone = 0, False
        while start < len(steps) and tries < most:
            fewer = steps[:start] + steps[start + size :]
            tries += 1
            if fails(msgspec.structs.replace(scenario, steps=tuple(fewer))):
                steps, gone = fewer, True
            else:
                start += size
        if not gone or size > 1:
            size //= 2
    return msgspec.structs.replace(scenario, steps=tuple(steps))
