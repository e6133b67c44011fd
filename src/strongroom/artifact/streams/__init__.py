"""The formats of streams: mbstream, tar, gzip."""
