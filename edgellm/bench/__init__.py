"""Measuring: this engine and its peers, on the same token ids, in the same run."""
