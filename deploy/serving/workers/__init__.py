"""The part of the service without HTTP: an engine in a process of its own, which decodes, batches and computes."""
