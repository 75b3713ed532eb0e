"""Lets the things of a world happen in a random order: lags, crashes, slow stages, zombies."""

import random

HOUR = 3_600_000


class Storm:
    """Reproducible by its seed. `zombies`: agents that have not heard of a stop."""

    def __init__(self, world, seed, *, zombies=False):
        self.world = world
        self.pick = random.Random(seed)
        self.zombies = zombies
        self.slow = []
        """Deliveries that an agent has begun and not ended."""

    def until_quiet(self):
        """Until nothing is left to do and nothing is due within the hour."""
        for _ in range(4_000):
            if not self._step():
                return
        raise AssertionError("it never comes to rest")

    def _step(self):
        world, chance = self.world, self.pick.random()
        moves = [move for move in world.moves() if self._is_free(move)]
        if chance < 0.05:
            world.crash_keeper()
        elif self.slow and (chance < 0.15 or not moves):
            self._end(self.slow.pop(self.pick.randrange(len(self.slow))))
        elif moves:
            self._move(self.pick.choice(moves))
        elif world.turn is not None:
            world.commit_turn()
        elif (due := self._next_due()) is not None:
            world.now = max(world.now, due)
        else:
            return False
        return True

    def _next_due(self):
        """What lies beyond the hour is retention."""
        due = self.world.holds.next_due()
        return due if due is not None and due < self.world.now + HOUR else None

    def _is_free(self, move):
        """Deliveries of one part run one after another."""
        path = self.world.path_of(move)
        return path is None or all(work.part.path != path for work in self.slow)

    def _move(self, move):
        world, path = self.world, self.world.path_of(move)
        if path is None:
            move()
            if self.pick.random() < 0.6:
                world.commit_turn()
        elif self.pick.random() < 0.4:
            self._begin(path)
        else:
            move()

    def _begin(self, path):
        work = self.world.begin(path)
        if work is not None:
            self.slow.append(work)
            if self.pick.random() < 0.5:
                self.world.show_running(work)

    def _end(self, work):
        self.world.finish(work, sees_stop=not (self.zombies and self.pick.random() < 0.5))
