"""Images that do not fit into memory: read, segmented, measured and written window by window."""
