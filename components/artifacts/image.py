"""The image that every pipeline step runs in."""

# kfp.local warns unless the name says python; `rankgate compile --image` puts the real one, by digest, in its place.
STEP_IMAGE = "rankgate/python:local"
