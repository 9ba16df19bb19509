"""The stages of the ladder, from the bottom: each is a module with `run(session) -> StageResult`."""
