"""dtlsffi.core.batches."""
