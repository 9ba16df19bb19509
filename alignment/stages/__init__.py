"""The stages of a comparison, in the order of runner.STAGES; each is a module with `run(session) -> StageResult`."""
