"""The rungs of the ladder, from the bottom: each is a module with `climb(session) -> RungResult`."""
