"""Faces: found, followed, brought upright, cut out, blended."""
