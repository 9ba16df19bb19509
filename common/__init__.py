"""What several packages need, on the standard library alone: errors, programs, files, processes, processors."""
