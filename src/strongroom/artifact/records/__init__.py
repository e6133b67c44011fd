"""The small objects beside the data: intent, manifest, seal, verification."""
