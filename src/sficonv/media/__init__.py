"""Images and videos in."""
