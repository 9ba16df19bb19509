"""The TIPC harness: shell scripts that run whole chains, and the checks of their results."""
