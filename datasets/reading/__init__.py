"""From a path to pixels: list files, class folders, shards, decoders, and the crop that a backend decodes."""
