"""TIPC harness: shell scripts that run whole chains of commands, and the checks of their results."""
